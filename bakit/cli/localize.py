"""``bakit localize``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.paths import BUNDLES, only_bundle


@click.command("localize")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help=f"The bundle whose localizer runs. Default: the one in {BUNDLES}/.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of the backend.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an image.")
def command(
    images: tuple[Path, ...], bundle: Path | None, threads: int | None, *, as_json: bool
) -> None:
    """Find the hand in radiographs.

    \b
    Example:
      bakit localize hand.png other.png --json
    """
    import msgspec

    from bakit.runtime import Runtime

    with Runtime(bundle or only_bundle(), threads) as runtime:
        for image in images:
            found = runtime.localize(image)
            if as_json:
                click.echo(msgspec.json.encode({"image": str(image)} | msgspec.to_builtins(found)))
            else:
                box = "no hand found" if found.box is None else " ".join(map(str, found.box))
                click.echo(f"{image}: {box}")
