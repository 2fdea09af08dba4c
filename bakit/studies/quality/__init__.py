"""What learns the limits of quality control (``bakit.quality.limits``) and measures them."""

from bakit.studies.quality.run import qualify_file

__all__ = ["qualify_file"]
