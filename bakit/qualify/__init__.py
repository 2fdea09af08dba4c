"""What learns the limits of quality control (``bakit.quality``) and measures them."""

from bakit.qualify.run import qualify_file

__all__ = ["qualify_file"]
