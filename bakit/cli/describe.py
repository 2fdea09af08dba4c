"""``bakit describe``, ``bakit inspect`` and ``bakit dicom``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from bakit.cli.options import PATH, json_option, plots_option
from bakit.cli.tables import echo, echo_json, next_step, print_line, print_table, safe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.studies.describe.document import Description
    from bakit.studies.describe.findings import Finding

    _Rows = Sequence[tuple[str, ...]]

SHOWN = 10
"""Findings of each kind that are printed; --json has all of them."""
BAR = 40
"""Length of the longest bar, in characters."""


@click.command("describe")
@click.argument("data", type=PATH)
@click.option(
    "--against",
    multiple=True,
    metavar="OTHER",
    type=PATH,
    help="Folder that should share no image with DATA, such as a test set; repeatable.",
)
@plots_option("ages.png, sexes.png, sizes.png (if they vary) and contact_sheet.png")
@json_option()
@click.pass_context
def command(
    ctx: click.Context, data: Path, against: tuple[Path, ...], plots: Path | None, *, as_json: bool
) -> None:
    """Summarize a labelled dataset (labels.csv, images/) and list its errors.

    Every image is decoded. Images with equal grey values are duplicates, whatever their names.

    Exit status: 0 bakit train accepts the folder, 1 it has errors, 2 wrong input.

    \b
    Example:
      bakit describe radiographs/
      bakit describe radiographs/ --against test-set/ --plots plots/
    """
    from bakit.cli.progress import progress
    from bakit.studies.describe.findings import find
    from bakit.studies.describe.plots import draw_plots
    from bakit.studies.describe.run import describe

    with progress() as on_progress:
        description = describe(data, against, on_progress)
    drawn = [] if plots is None else draw_plots(description, data, plots)
    if as_json:
        echo_json(description)
    else:
        print_description(description, drawn)
    failed = any(finding.stops for finding in find(description))
    if failed:
        next_step("correct the errors, then run this command again")
    else:
        next_step("bakit train", data, "--out run --pretrained imagenet")
    ctx.exit(1 if failed else 0)


def print_description(description: Description, plots: Sequence[Path] = ()) -> None:
    """Print a description on stdout: tables, plot files, findings."""
    from bakit.studies.describe.findings import find, verdict

    print_line(description.folder)
    echo("")
    for title, columns, rows, left in (
        ("Images", ("", ""), _counts(description), (0,)),
        (
            "Bone age by sex, months",
            ("sex", "images", "share", "mean", "SD", "median", "min", "max"),
            _ages(description),
            (0,),
        ),
        (
            "Bone age by sex, images per year",
            ("years", "female", "male", ""),
            _years(description),
            (0, 3),
        ),
        ("Pixels", ("size", "width", "height", "images"), _sizes(description), (0,)),
    ):
        if rows:
            print_table(title, columns, rows, left=left)
    findings = find(description)
    lines = [f"plot: {path}" for path in plots]
    lines += [line for finding in findings for line in _finding_lines(finding)]
    for line in [*lines, verdict(findings)]:
        print_line(line)


def _counts(description: Description) -> _Rows:
    bad = len(description.unreadable) + len(description.blank)
    return [
        ("rows of labels.csv", str(description.rows)),
        ("images named by a row", str(description.images)),
        ("of these unreadable or blank", str(bad)),
        ("usable", str(description.usable)),
        *((f"compared with {other.folder}", str(other.images)) for other in description.against),
    ]


def _ages(description: Description) -> _Rows:
    rows = []
    for sex, ages in description.ages.items():
        if ages is not None:
            numbers = (ages.mean, ages.sd, ages.median, ages.min, ages.max)
            share = f"{ages.images / description.usable:.1%}"
            rows.append((sex, str(ages.images), share, *(f"{number:.1f}" for number in numbers)))
    return rows


def _years(description: Description) -> _Rows:
    rows = []
    most = max((count.female + count.male for count in description.ages_by_year), default=1)
    for count in description.ages_by_year:
        bar = "#" * round(BAR * (count.female + count.male) / max(most, 1))
        rows.append((f"{count.year}-{count.year + 1}", str(count.female), str(count.male), bar))
    return rows


def _sizes(description: Description) -> _Rows:
    widths, heights = description.widths, description.heights
    if widths is None or heights is None:
        return []
    rows = [
        (name, f"{getattr(widths, name):g}", f"{getattr(heights, name):g}", "")
        for name in ("min", "median", "max")
    ]
    for index, size in enumerate(description.sizes[:5]):
        name = "" if index else f"most common of {len(description.sizes)}"
        rows.append((name, str(size.width), str(size.height), str(size.images)))
    for kind in description.storage:
        depth = f", {kind.bits} bits, {kind.channels} channel" + "s" * (kind.channels != 1)
        rows.append((kind.format + depth * bool(kind.bits), "", "", str(kind.images)))
    return rows


def _finding_lines(finding: Finding) -> list[str]:
    lines = [f"{finding.what} ({len(finding.lines)}): {finding.advice}"]
    lines += [f"  {line}" for line in finding.lines[:SHOWN]]
    if len(finding.lines) > SHOWN:
        lines.append(f"  ... and {len(finding.lines) - SHOWN} more; --json lists all")
    return lines


# Hashes of ids (bakit.data.overlap), of 80 kB in all; digests are shorter.
_HASHES = re.compile(
    r'"(id_hashes|calibration_ids|train|validation|test)": "(?![0-9a-f]{64}")([A-Za-z0-9+/]{4,}=*)"'
)


@click.command("inspect")
@click.argument("path", type=PATH)
def inspect_command(path: Path) -> None:
    """Print the metadata of a bundle or checkpoint as JSON; hashes of ids as their number.

    \b
    Example:
      bakit inspect bakit-bundles/bakit-rsna299-onnx-int8
      bakit inspect run/best.safetensors
    """
    import msgspec

    then: tuple[str | Path, ...] = "bakit verify", path
    if path.is_dir():
        from bakit.bundle import Bundle, encode_manifest

        text = encode_manifest(Bundle.read(path).manifest).decode()
    else:
        from bakit.model.checkpoint import Checkpoint

        header = msgspec.json.encode(Checkpoint.read(path).header)
        text = msgspec.json.format(header, indent=2).decode() + "\n"
        then = "bakit export", path, "--target onnx"
    echo(_HASHES.sub(_number_of_ids, text).encode(), nl=False)
    next_step(*then)


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
    next_step("bakit predict", file)
