"""``bakit train``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bakit.errors import InputError
from bakit.recipes import RECIPES, get_recipe


@click.command("train")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the run.")
@click.option(
    "--recipe", type=click.Choice(list(RECIPES)), default="paper", show_default=True, help="Preset."
)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training part.")
@click.option("--batch-size", type=click.IntRange(2), help="Images an update.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Of SGD.")
@click.option("--zoom", type=(float, float), help="Lowest and highest random magnification.")
@click.option("--shift", type=click.FloatRange(0, 0.5), help="Largest random shift.")
@click.option("--pretrained", help="imagenet, none, or a weights file.")
@click.option("--image-size", type=int, default=96, show_default=True, help="Side, in pixels.")
@click.option("--head-layers", type=click.IntRange(1, 4), default=2, show_default=True)
@click.option("--sex/--no-sex", default=True, show_default=True, help="Sex as an input.")
@click.option(
    "--localize/--no-localize", default=True, show_default=True, help="Crop to the localizer's box."
)
@click.option(
    "--exclude",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Labelled folder whose ids are left out of all parts; may be given again.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of split and training.")
@click.option("--workers", type=click.IntRange(1), help="Processes for the localizer.")
@click.option("--describe", default="not described", help="What the images are, for the record.")
@click.option("--terms", default="not stated", help="Terms of use of the weights, for the record.")
def command(
    data: Path,
    out: Path,
    recipe: str,
    image_size: int,
    head_layers: int,
    exclude: tuple[Path, ...],
    seed: int,
    workers: int | None,
    describe: str,
    terms: str,
    *,
    sex: bool,
    localize: bool,
    **given: object,
) -> None:
    """Train a float checkpoint on a labelled folder, split 7:2:1.

    The run's folder gets best.safetensors, logs/metrics.csv and the boxes that were found.

    \b
    Example:
      bakit phantoms --out phantoms -n 2000 --height 160
      bakit train phantoms --out run --recipe scratch --epochs 5
    """
    from bakit.cli.progress import progress
    from bakit.settings import Architecture, LocalizerSettings, Preprocessing

    try:
        preprocessing = Preprocessing(image_size=image_size, localize=localize)
    except ValueError as error:
        raise InputError(str(error)) from error
    zoom = given.get("zoom")
    if isinstance(zoom, tuple) and not 0 < zoom[0] <= zoom[1]:
        message = f"--zoom {zoom[0]:g} {zoom[1]:g} is not possible; use two numbers above 0, rising"
        raise InputError(message)
    numbers = get_recipe(recipe, **given)
    from bakit.train import TrainingPlan, train

    plan = TrainingPlan(
        data=data,
        recipe=numbers,
        architecture=Architecture(head_layers=head_layers, sex=sex),
        preprocessing=preprocessing,
        localizer=LocalizerSettings(),
        exclude=exclude,
        split_seed=seed,
        seed=seed,
        description=describe,
        terms=terms,
    )
    with progress("localizing") as on_image:
        checkpoint = train(
            plan, out, workers=workers, progress=sys.stderr.isatty(), on_image=on_image
        )
    click.echo(f"{checkpoint.path}")
    record = checkpoint.header.training
    for part, metrics in record.metrics.items() if record else ():
        click.echo(f"{part}: MAE {metrics.mae_months:.2f} months on {metrics.samples} images")
