"""``bakit inspect`` and ``bakit dicom``."""

from __future__ import annotations

import re
from pathlib import Path

import click

from bakit.cli.options import PATH, json_option
from bakit.cli.tables import echo, echo_json, next_step, safe

# Hashes of ids (bakit.data.overlap), of 80 kB in all; digests are shorter.
_HASHES = re.compile(
    r'"(id_hashes|calibration_ids|train|validation|test)": "(?![0-9a-f]{64}")([A-Za-z0-9+/]{4,}=*)"'
)


@click.command("inspect")
@click.argument("path", type=PATH)
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

        text = encode_manifest(Bundle.read(path).manifest).decode()
    else:
        from bakit.model.checkpoint import Checkpoint

        header = msgspec.json.encode(Checkpoint.read(path).header)
        text = msgspec.json.format(header, indent=2).decode() + "\n"
    echo(_HASHES.sub(_number_of_ids, text).encode(), nl=False)
    next_step(f"bakit verify {path}" if path.is_dir() else f"bakit export {path} --target onnx")


def _number_of_ids(hashes: re.Match[str]) -> str:
    from bakit.data.overlap import count_hashes

    return f'"{hashes[1]}": "hashes of {count_hashes(hashes[2]):,} ids"'


@click.command("dicom")
@click.argument("file", type=PATH)
@json_option()
def dicom_command(file: Path, *, as_json: bool) -> None:
    """Print what bakit understands of a DICOM header.

    Nothing printed identifies the patient: no name, number, date or UID. A file that bakit predict
    would refuse has the reason at "refused".

    \b
    Example:
      bakit dicom hand.dcm
    """
    from bakit.image.read import describe

    found = describe(file)
    if as_json:
        echo_json(found)
        return
    for field, text in found.items():
        echo(safe(f"{field}: {text}"))
    next_step(f"bakit predict {file}")
