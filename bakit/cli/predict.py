"""``bakit predict`` and ``bakit localize``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import (
    OUT_FILE,
    OUT_FOLDER,
    PATH,
    SEX,
    bundle_option,
    find_images,
    json_option,
    localizer_changes,
    localizer_options,
    only_bundle,
    provider_option,
    public_key_option,
    threads_option,
)
from bakit.cli.tables import echo, echo_fault, echo_json, hint, next_step

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.prediction import Prediction


@click.command("predict")
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=PATH)
@click.option(
    "--sex",
    type=SEX,
    help="Sex of the children, F or M; required (girls and boys mature at different ages), unless "
    "the DICOM files state it.",
)
@bundle_option
@public_key_option
@threads_option
@provider_option
@click.option("--allow-rejected", is_flag=True, help="Print the ages of rejected images as well.")
@click.option("--thorough", is_flag=True, help="Check whether rotating the hand changes the age.")
@click.option(
    "--reference",
    type=PATH,
    metavar="TABLE",
    help="Reference CSV (sex, age_months, mean, sd): print the SDS. Needs a DICOM file with the "
    "dates of birth and study.",
)
@click.option(
    "--sr", type=OUT_FILE, help="Write a DICOM structured report of one image to this file."
)
@click.option("--fhir", type=OUT_FILE, help="Write a FHIR Observation of one image to this file.")
@json_option("Print one JSON object per image.")
@click.pass_context
def command(
    context: click.Context,
    /,
    images: tuple[Path, ...],
    bundle: Path | None,
    public_key: Path | None,
    threads: int | None,
    provider: str | None,
    reference: Path | None,
    sr: Path | None,
    fhir: Path | None,
    *,
    as_json: bool,
    **how: Any,  # noqa: ANN401  # arguments of Runtime.predict_many, but for the sex
) -> None:
    """Predict the bone age from radiographs: files, or folders of them.

    No age is printed for a rejected image; see --allow-rejected. An image that cannot be used does
    not stop the others: its error is printed on stderr, and with --json on stdout as well.

    Exit status: 0 every image has an age, 1 an image was rejected, 2 an image cannot be used.

    \b
    Example:
      bakit predict hand.png --sex F
      bakit predict hand.dcm --sr report.dcm
      bakit predict radiographs/ more/hand.png --sex male --json
    """
    from bakit.errors import BakitError, InputError
    from bakit.report.text import read_reference
    from bakit.runtime import Runtime

    paths = find_images(images)
    several = len(paths) > 1 or images[0].is_dir()
    if several and (sr or fhir):
        message = f"{'--sr' if sr else '--fhir'} takes one image, {len(paths)} were given"
        raise InputError(message)
    table = None if reference is None else read_reference(reference)
    sex, status, counts = how.pop("sex"), 0, [0, 0, 0]
    how_open: dict[str, Any] = {"public_key": public_key, "provider": provider}
    with Runtime(bundle or only_bundle(), threads, **how_open) as runtime:
        if provider is not None:
            echo(f"runs on {runtime.provider}", err=True)
        for path, found in zip(paths, runtime.predict_many(paths, sex, **how), strict=True):
            if isinstance(found, BakitError):
                status = max(status, found.exit_status)
                counts[2] += 1
                echo_fault(path, found, as_json=as_json and several)
                continue
            sds = "" if table is None else table.sds_text(found)
            rejected = found.age_months is None
            status = max(status, int(rejected))
            counts[rejected] += 1
            if not rejected and (sr is not None or fhir is not None):
                from bakit.report.fhir import write_reports

                write_reports(found, path, sr=sr, fhir=fhir)
            _print(found, f"{path}: " if several else "", sds, path, as_json=as_json)
    if several:
        hint("{} predicted, {} rejected, {} not usable".format(*counts))
    if counts[0]:
        next_step("bakit bench --data DATA --json report.json   (labels.csv, images/: accuracy)")
    elif counts[1]:
        next_step("bakit localize", paths[0], "--overlay overlays   (draws what was found)")
    context.exit(status)


def _print(found: Prediction, start: str, sds: str, path: Path, *, as_json: bool) -> None:
    from bakit.files import printable
    from bakit.report.text import age_text, verdict_text

    rejected = found.age_months is None
    if as_json:
        fields = {"image": printable(path)} if start else {}
        echo_json(fields | found.to_dict())
    elif not rejected:
        echo(start + age_text(found) + sds)
    if found.quality.status != "accept" and (rejected or not as_json):
        echo(start + verdict_text(found.quality), err=True)


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
    type=OUT_FOLDER,
    help="Output folder for overlays: original, localizer input, candidate regions with the box, "
    "final crop.",
)
@threads_option
@json_option("Print one JSON object per image.")
@click.pass_context
def localize_command(
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
      bakit localize hand.png --method unrolled --features 90 --labels 90
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
        next_step("bakit predict", paths[0], "--sex SEX   (F or M)")
    context.exit(status)
