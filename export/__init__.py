"""From a float checkpoint to a bundle, with one exporter module per target."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bakit.export.bundle import export_bundle

__all__ = ["export_bundle"]


def __getattr__(name: str) -> object:
    """Import on first use: importing the package must not load onnx."""
    if name == "export_bundle":
        from bakit.export.bundle import export_bundle  # noqa: PLC0415

        return export_bundle
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
