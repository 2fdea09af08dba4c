"""``bakit train``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
import msgspec

from bakit.cli.options import PATH
from bakit.cli.tables import echo, next_step
from bakit.cli.training_options import make_plan, make_progress, recipe_option, training_options
from bakit.errors import InputError
from bakit.model.recipes import RECIPES, Recipe, default_recipe, get_recipe
from bakit.settings import Architecture, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Any]


def _recipe_options(command: Command) -> Command:
    """Add an option for every field of ``Recipe``; its help is the field's docstring."""
    texts = dict(re.findall(r"^ {8}(\w+): ((?:.|\n(?! {8}\w+: |\n))+)", Recipe.__doc__ or "", re.M))
    for field in reversed(msgspec.structs.fields(Recipe)):
        text = " ".join(texts[field.name].replace("``", "").split())
        name = field.name.replace("_", "-")
        if field.name == "pretrained":
            text = "imagenet, none, or a file (torchvision's weights or a bakit checkpoint)."
        presets = "; ".join(f"{p} {_shown(getattr(r, field.name))}" for p, r in RECIPES.items())
        text = f"{text}  [{presets}]"
        kind: Any = field.type
        if kind is bool:
            option = click.option(f"--{name}/--no-{name}", default=None, help=text)
        elif kind in {int, float, str}:
            option = click.option(f"--{name}", type=kind, help=text)
        elif getattr(kind, "__origin__", None) is tuple:
            option = click.option(f"--{name}", type=kind.__args__, metavar="LOW HIGH", help=text)
        else:
            option = click.option(f"--{name}", type=click.Choice(kind.__args__), help=text)
        command = option(command)
    return command


def _shown(value: object) -> str:
    """Return a preset's value as the user would type it."""
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value}"


@click.command("train")
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Resume the run in --out, if there is one.")
@recipe_option
@click.option(
    "--image-size",
    type=int,
    default=Preprocessing().image_size,
    show_default=True,
    help="Side in pixels; the paper's Table 2 has 224, 500 and 700.",
)
@click.option("--head-layers", type=click.IntRange(1, 4), default=2, show_default=True)
@click.option("--sex/--no-sex", default=True, show_default=True, help="Sex as an input.")
@click.option(
    "--localize/--no-localize", default=True, show_default=True, help="Crop to the localizer's box."
)
@click.option(
    "--equalize/--no-equalize", default=True, show_default=True, help="Equalize the histogram."
)
@click.option("--deterministic", is_flag=True, help="Fail on nondeterministic operations.")
@click.option(
    "--devices",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="GPUs or CPU processes on each machine.",
)
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Machines.")
@training_options
@click.option("--describe", default="not described", help="Description of the data to store.")
@click.option("--terms", default="not stated", help="Terms of use of the weights to store.")
@_recipe_options
def command(
    data: Path,
    out: Path,
    recipe: str | None,
    image_size: int,
    head_layers: int,
    devices: int,
    nodes: int,
    describe: str,
    terms: str,
    pretrained: str | None,
    *,
    resume: bool,
    sex: bool,
    localize: bool,
    equalize: bool,
    deterministic: bool,
    **options: Any,  # noqa: ANN401  # of training_options, and the recipe's numbers
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
    numbers = {name: options[name] for name in Recipe.__struct_fields__ if name != "pretrained"}
    chosen = get_recipe(recipe or default_recipe(pretrained), pretrained=pretrained, **numbers)
    from bakit.training.curve import CURVE
    from bakit.training.fitting import Hardware
    from bakit.training.run import train

    architecture = Architecture(head_layers=head_layers, sex=sex)
    described = {"description": describe, "terms": terms}
    plan = make_plan(data, chosen, architecture, preprocessing, options, **described)
    accelerator, precision = options["accelerator"], options["precision"]
    hardware = Hardware(accelerator, devices, nodes, precision, deterministic, options["threads"])

    def say(text: str) -> None:
        echo(text, err=True)

    with progress(log=True) as on_progress:
        checkpoint = train(
            plan,
            out,
            resume=resume,
            hardware=hardware,
            cache=options["cache"],
            workers=options["workers"],
            progress=make_progress(on_progress, say, chosen.epochs),
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
