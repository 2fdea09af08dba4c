"""``bakit predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from bakit.cli.paths import BUNDLES, only_bundle, public_key_option

if TYPE_CHECKING:
    from bakit.prediction import Prediction, Sex


@click.command("predict")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--sex",
    type=click.Choice(["M", "F"]),
    help="The child's sex: bone age is read against it, so there is no default. A DICOM file may "
    "say it instead.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help=f"The bundle to run. Default: the only one in {BUNDLES}/, or its float32 ONNX one.",
)
@public_key_option
@click.option("--threads", type=click.IntRange(1), help="Threads of the backend.")
@click.option("--allow-rejected", is_flag=True, help="Give the number of a rejected image as well.")
@click.option("--thorough", is_flag=True, help="Say if the age changes when the hand is turned.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="TABLE",
    help="CSV with the columns sex, age_months, mean and sd: print the SDS against it. Needs a "
    "DICOM file with the dates of birth and study.",
)
@click.option(
    "--sr", type=click.Path(path_type=Path), help="DICOM file: write a structured report here."
)
@click.option(
    "--fhir", type=click.Path(path_type=Path), help="Write a FHIR Observation (JSON) here."
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
    """Read the bone age from one radiograph.

    A rejected image has no age, and the exit status is 1; --allow-rejected gives it all the same.

    \b
    Example:
      bakit predict hand.png --sex F
      bakit predict hand.dcm --sr report.dcm
      bakit predict hand.png --sex F --bundle bakit-bundles/bakit-rsna100-onnx-int8 --json
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
        click.echo(prediction.to_json())
    elif not rejected:
        click.echo(age_text(prediction) + line)
    if prediction.quality.status != "accept" and (rejected or not as_json):
        reasons = ", ".join(prediction.quality.reasons)
        click.echo(f"{prediction.quality.status}: {reasons}", err=True)
    if rejected:
        context.exit(1)


def _sds(prediction: Prediction, table: Path) -> str:
    """Return the SDS in words, to be put behind the age."""
    from bakit.errors import InputError
    from bakit.report.text import read_reference

    reference = read_reference(table)
    if prediction.age_months is None:
        return ""
    if prediction.chronological_months is None:
        message = "--reference needs the chronological age: a DICOM file with birth and study date"
        raise InputError(message)
    sds = reference.sds(prediction.age_months, prediction.chronological_months, prediction.sex)
    return f"; SDS {sds:+.1f}" if sds is not None else "; no SDS: outside of the table"
