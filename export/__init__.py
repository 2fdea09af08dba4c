"""Float checkpoint to bundle, one exporter module a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bakit.export.bundle import export_bundle

__all__ = ["export_bundle"]


def __getattr__(name: str) -> object:
    """Import on first use: reading the package's name must not load onnx."""
    if name == "export_bundle":
        from bakit.export.bundle import export_bundle  # noqa: PLC0415

        return export_bundle
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
