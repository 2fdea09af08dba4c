"""``bakit predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from bakit.cli.paths import BUNDLES, only_bundle, public_key_option
from bakit.cli.tables import echo

if TYPE_CHECKING:
    from bakit.prediction import Prediction, Sex


@click.command("predict")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--sex",
    type=click.Choice(["M", "F"]),
    help="Sex of the child; required (girls and boys mature at different ages), unless the DICOM "
    "file states it.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help=f"Bundle to run. Default: the only one in {BUNDLES}/, or its only float32 ONNX bundle.",
)
@public_key_option
@click.option("--threads", type=click.IntRange(1), help="Threads of the backend.")
@click.option("--allow-rejected", is_flag=True, help="Print the age of a rejected image as well.")
@click.option("--thorough", is_flag=True, help="Check whether rotating the hand changes the age.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="TABLE",
    help="Reference CSV (sex, age_months, mean, sd): print the SDS. Needs a DICOM file with the "
    "dates of birth and study.",
)
@click.option(
    "--sr", type=click.Path(path_type=Path), help="Write a DICOM structured report to this file."
)
@click.option(
    "--fhir", type=click.Path(path_type=Path), help="Write a FHIR Observation (JSON) to this file."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    context: click.Context,
    image: Path,
    sex: str | None,
    bundle: Path | None,
    public_key: Path | None,
    threads: int | None,
    reference: Path | None,
    sr: Path | None,
    fhir: Path | None,
    *,
    allow_rejected: bool,
    thorough: bool,
    as_json: bool,
) -> None:
    """Predict the bone age from one radiograph.

    If the image is rejected, no age is printed and the exit status is 1; see --allow-rejected.

    \b
    Example:
      bakit predict hand.png --sex F
      bakit predict hand.dcm --sr report.dcm
      bakit predict hand.png --sex F --bundle bakit-bundles/bakit-rsna299-onnx-int8 --json
    """
    from bakit.report.text import age_text
    from bakit.runtime import Runtime

    with Runtime(bundle or only_bundle(), threads, public_key=public_key) as runtime:
        prediction = runtime.predict(
            image, cast("Sex | None", sex), allow_rejected=allow_rejected, thorough=thorough
        )
    rejected = prediction.age_months is None
    line = _sds(prediction, reference) if reference is not None else ""
    if not rejected and (sr is not None or fhir is not None):
        from bakit.report.fhir import write_reports

        write_reports(prediction, image, sr=sr, fhir=fhir)
    if as_json:
        echo(prediction.to_json())
    elif not rejected:
        echo(age_text(prediction) + line)
    if prediction.quality.status != "accept" and (rejected or not as_json):
        reasons = ", ".join(prediction.quality.reasons)
        echo(f"{prediction.quality.status}: {reasons}", err=True)
    if rejected:
        context.exit(1)


def _sds(prediction: Prediction, table: Path) -> str:
    """Return the SDS as text to append to the age."""
    from bakit.errors import InputError
    from bakit.report.text import read_reference

    reference = read_reference(table)
    if prediction.age_months is None:
        return ""
    if prediction.chronological_months is None:
        message = "--reference needs a DICOM file with the dates of birth and study"
        raise InputError(message)
    sds = reference.sds(prediction.age_months, prediction.chronological_months, prediction.sex)
    return f"; SDS {sds:+.1f}" if sds is not None else "; no SDS: age outside the reference table"
