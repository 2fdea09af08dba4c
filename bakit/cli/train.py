"""``bakit train``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import PATH, several
from bakit.cli.tables import echo, next_step
from bakit.cli.training_options import (
    make_plan,
    make_progress,
    recipe_options,
    training_options,
)
from bakit.errors import InputError
from bakit.settings import Architecture, Preprocessing

if TYPE_CHECKING:
    from pathlib import Path


@click.command("train")
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Resume the run in --out, if there is one.")
@click.option(
    "--image-size",
    type=int,
    default=Preprocessing().image_size,
    help="Side in pixels; the paper's Table 2 has 224, 500 and 700.",
)
@click.option("--head-layers", type=click.IntRange(1, 4), default=2, help="Hidden layers.")
@click.option("--sex/--no-sex", default=True, help="Sex as an input.")
@click.option("--localize/--no-localize", default=True, help="Crop to the localizer's box.")
@click.option("--equalize/--no-equalize", default=True, help="Equalize the histogram.")
@click.option("--deterministic", is_flag=True, help="Fail on nondeterministic operations.")
@click.option(
    "--devices", type=click.IntRange(1), default=1, help="GPUs or CPU processes on each machine."
)
@click.option("--nodes", type=click.IntRange(1), default=1, help="Machines.")
@training_options
@click.option("--describe", default="not described", help="Description of the data to store.")
@click.option("--terms", default="not stated", help="Terms of use of the weights to store.")
@several(*recipe_options())
def command(
    data: Path,
    out: Path,
    image_size: int,
    head_layers: int,
    devices: int,
    nodes: int,
    describe: str,
    terms: str,
    *,
    resume: bool,
    sex: bool,
    localize: bool,
    equalize: bool,
    deterministic: bool,
    **options: Any,  # noqa: ANN401  # of training_options and recipe_options
) -> None:
    """Train a float checkpoint on a labelled folder, split 7:2:1.

    The run's folder gets best.safetensors, last.safetensors, metrics.csv, progress.json, curve.png
    and TensorBoard logs. --resume continues an interrupted run; the result is the same.

    \b
    Example:
      bakit phantoms --out phantoms -n 2000 --height 160
      bakit train phantoms --out run --recipe scratch --epochs 5
    """
    from bakit.cli.progress import progress

    try:
        preprocessing = Preprocessing(image_size, localize=localize, equalize=equalize)
    except ValueError as error:
        raise InputError(str(error)) from error
    from bakit.training.fitting import Hardware
    from bakit.training.run import CURVE, train

    architecture = Architecture(head_layers=head_layers, sex=sex)
    described = {"description": describe, "terms": terms}
    plan = make_plan(data, options, architecture, preprocessing, **described)
    accelerator, precision = options["accelerator"], options["precision"]
    hardware = Hardware(accelerator, devices, nodes, precision, deterministic, options["threads"])

    with progress(log=True) as on_progress:
        checkpoint = train(
            plan,
            out,
            resume=resume,
            hardware=hardware,
            cache=options["cache"],
            workers=options["workers"],
            progress=make_progress(on_progress, plan.recipe.epochs),
        )
    if checkpoint is None:  # not the main process
        return
    echo(f"{checkpoint.path}\nplot: {out / CURVE}")
    record = checkpoint.header.training
    for part, metrics in record.metrics.items() if record else ():
        held = metrics.interval_coverage
        text = "" if held is None else f", interval coverage {100 * held:.1f} %"
        echo(f"{part}: MAE {metrics.mae_months:.2f} months on {metrics.samples} images{text}")
    next_step(f"bakit export {checkpoint.path} --target onnx --precision fp32,int8")
