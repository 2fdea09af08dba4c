"""``bakit dicom``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.options import PATH, json_option
from bakit.cli.tables import echo, next_step, safe


@click.command("dicom")
@click.argument("file", type=PATH)
@json_option()
def command(file: Path, *, as_json: bool) -> None:
    """Print what bakit understands of a DICOM header.

    Nothing printed identifies the patient: no name, number, date or UID. A file that bakit predict
    would refuse has the reason at "refused".

    \b
    Example:
      bakit dicom hand.dcm
    """
    import msgspec

    from bakit.image.read import describe

    found = describe(file)
    if as_json:
        echo(msgspec.json.encode(found))
        return
    for field, text in found.items():
        echo(safe(f"{field}: {text}"))
    next_step(f"bakit predict {file}")
