"""``bakit inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.tables import echo


@click.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
def command(path: Path) -> None:
    """Print the metadata of a bundle or checkpoint as JSON.

    \b
    Example:
      bakit inspect bakit-bundles/bakit-rsna299-onnx-int8
      bakit inspect run/best.safetensors
    """
    import msgspec

    if path.is_dir():
        from bakit.bundle import Bundle, encode_manifest

        echo(encode_manifest(Bundle.read(path).manifest), nl=False)
        return
    from bakit.model.checkpoint import Checkpoint

    echo(msgspec.json.format(msgspec.json.encode(Checkpoint.read(path).header), indent=2))
