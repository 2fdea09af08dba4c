"""``bakit localize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bakit.cli.localizer_options import localizer_changes, localizer_options
from bakit.cli.tables import echo


@click.command("localize")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--method",
    "--localizer",
    "method",
    help="student, unrolled (the paper's SGD steps), or a file of bakit distill. Needs the extra "
    "export.  [default: student]",
)
@localizer_options
@click.option(
    "--bundle", type=click.Path(path_type=Path), help="Use the localizer of this bundle instead."
)
@click.option(
    "--overlay",
    type=click.Path(path_type=Path, file_okay=False),
    help="Output folder for overlays: original, localizer input, candidate regions with the box, "
    "final crop.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of the backend.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image.")
def command(
    images: tuple[Path, ...],
    method: str | None,
    bundle: Path | None,
    overlay: Path | None,
    threads: int | None,
    *,
    as_json: bool,
    **options: Any,  # noqa: ANN401  # of localizer_options
) -> None:
    """Find the hand in radiographs.

    \b
    Example:
      bakit localize hand.png other.png --json
      bakit localize hand.png --method unrolled --overlay pictures/
      bakit localize hand.png --method unrolled --features 90 --labels 90 --box-rule literal
    """
    import msgspec

    from bakit.files import printable
    from bakit.studies.localize import localize_files

    found = localize_files(
        images,
        method=method,
        changes=localizer_changes(options),
        bundle=bundle,
        overlay=overlay,
        threads=threads,
    )
    for image, place in found:
        if as_json:
            echo(msgspec.json.encode({"image": printable(image)} | msgspec.to_builtins(place)))
            continue
        box = "no hand found" if place.box is None else " ".join(map(str, place.box))
        remarks = [r.replace("_", " ") for r in place.reasons if r != "no_hand_found"]
        text = f"  ({', '.join(remarks)})" if remarks else ""
        echo(f"{image}: {box}{text}")
