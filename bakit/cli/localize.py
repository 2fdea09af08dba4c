"""``bakit localize``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bakit.cli.options import (
    PATH,
    find_images,
    json_option,
    localizer_changes,
    localizer_options,
    threads_option,
)
from bakit.cli.tables import echo, echo_fault, echo_json, hint, next_step


@click.command("localize")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=PATH)
@click.option(
    "--method",
    "--localizer",
    "method",
    help="student, unrolled (the paper's SGD steps), or a file of bakit distill. Needs the extra "
    "export.  [default: student]",
)
@localizer_options
@click.option("--bundle", type=PATH, help="Use the localizer of this bundle instead.")
@click.option(
    "--overlay",
    type=click.Path(path_type=Path, file_okay=False),
    help="Output folder for overlays: original, localizer input, candidate regions with the box, "
    "final crop.",
)
@threads_option
@json_option("Print one JSON object per image.")
@click.pass_context
def command(
    context: click.Context,
    /,
    images: tuple[Path, ...],
    method: str | None,
    bundle: Path | None,
    overlay: Path | None,
    threads: int | None,
    *,
    as_json: bool,
    **options: Any,  # noqa: ANN401  # of localizer_options
) -> None:
    """Find the hand in radiographs: files, or folders of them.

    An image that cannot be used does not stop the others: its error is printed on stderr, and with
    --json on stdout as well. The exit status is 2 then.

    \b
    Example:
      bakit localize hand.png other.png --json
      bakit localize radiographs/ --method unrolled --overlay pictures/
      bakit localize hand.png --method unrolled --features 90 --labels 90 --box-rule literal
    """
    import msgspec

    from bakit.errors import BakitError
    from bakit.files import printable
    from bakit.studies.localize import localize_files

    paths, status = find_images(images), 0
    found = localize_files(
        paths,
        method=method,
        changes=localizer_changes(options),
        bundle=bundle,
        overlay=overlay,
        threads=threads,
    )
    for image, place in found:
        if isinstance(place, BakitError):
            status = max(status, place.exit_status)
            echo_fault(image, place, as_json=as_json and len(paths) > 1)
        elif as_json:
            found_of = {"image": printable(image)} | msgspec.to_builtins(place)
            echo_json(found_of)
        else:
            box = "no hand found" if place.box is None else " ".join(map(str, place.box))
            remarks = [r.replace("_", " ") for r in place.reasons if r != "no_hand_found"]
            text = f"  ({', '.join(remarks)})" if remarks else ""
            echo(f"{image}: {box}{text}")
    if overlay is not None and overlay.is_dir():
        hint(f"overlays: {overlay}")
    if not status:
        next_step(f"bakit predict {paths[0]} --sex F")
    context.exit(status)
