"""``bakit predict``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.paths import BUNDLES, only_bundle


@click.command("predict")
@click.argument("image", type=click.Path(path_type=Path))
@click.option(
    "--sex",
    required=True,
    type=click.Choice(["M", "F"]),
    help="The child's sex: bone age is read against it, so there is no default.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help=f"The bundle to run. Default: the only one in {BUNDLES}/, or its float32 ONNX one.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of the backend.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    image: Path, sex: str, bundle: Path | None, threads: int | None, *, as_json: bool
) -> None:
    """Read the bone age from one radiograph, in months.

    \b
    Example:
      bakit predict hand.png --sex F
      bakit predict hand.png --sex F --bundle bakit-bundles/bakit-rsna100-onnx-int8 --json
    """
    import msgspec

    from bakit.runtime import Runtime

    with Runtime(bundle or only_bundle(), threads) as runtime:
        prediction = runtime.predict(image, "M" if sex == "M" else "F")
        intervals = runtime.bundle.manifest.intervals
    if as_json:
        click.echo(msgspec.json.encode(prediction))
        return
    years, months = divmod(round(prediction.age_months), 12)
    line = f"{prediction.age_months:.1f} months ({years} y {months} m)"
    if intervals is not None and prediction.interval_months is not None:
        lower, upper = prediction.interval_months
        line += f", {100 * intervals.level:g} % interval {lower:.1f} to {upper:.1f} months"
    click.echo(line)
    if prediction.quality.status != "accept":
        reasons = ", ".join(prediction.quality.reasons)
        click.echo(f"{prediction.quality.status}: {reasons}", err=True)
