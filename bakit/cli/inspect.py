"""``bakit inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bakit.cli.tables import echo


@click.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
def command(path: Path) -> None:
    """Print the metadata of a bundle or checkpoint as JSON; hashes of ids as their number.

    \b
    Example:
      bakit inspect bakit-bundles/bakit-rsna299-onnx-int8
      bakit inspect run/best.safetensors
    """
    import msgspec

    if path.is_dir():
        from bakit.bundle import Bundle, encode_manifest

        document = json.loads(encode_manifest(Bundle.read(path).manifest))
    else:
        from bakit.model.checkpoint import Checkpoint

        document = json.loads(msgspec.json.encode(Checkpoint.read(path).header))
    echo(json.dumps(_brief(document), indent=2))


def _brief(value: Any, name: str = "") -> Any:  # noqa: ANN401  # any JSON
    """Return a document with the number of hashes in place of tens of thousands of letters."""
    from bakit.data.overlap import count_hashes

    if isinstance(value, dict):
        inside = name if name == "id_hashes" else ""
        return {key: _brief(item, inside or key) for key, item in value.items()}
    if isinstance(value, list):
        return [_brief(item) for item in value]
    if isinstance(value, str) and name in ("id_hashes", "calibration_ids"):
        return f"hashes of {count_hashes(value)} ids"
    return value
