"""Common parts of the training commands: options, plan, progress lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
import msgspec

from bakit.cli.options import (
    MOST_THREADS,
    PATH,
    Names,
    Number,
    localizer_changes,
    localizer_options,
    several,
    workers_option,
)
from bakit.cli.progress import clock, duration
from bakit.cli.tables import echo, safe
from bakit.errors import InputError
from bakit.model.recipes import RECIPES, Recipe, default_recipe, get_recipe
from bakit.settings import PAPER_LOCALIZER, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bakit.cli.options import Command
    from bakit.settings import Architecture
    from bakit.training.callbacks import Epoch
    from bakit.training.plan import TrainingPlan
    from bakit.training.pretrained import Pretrained
    from bakit.training.run import Progress
    from bakit.types import OnProgress


def recipe_options(*names: str) -> Iterator[Callable[[Command], Command]]:
    """Yield ``--recipe``, and an option for fields of ``Recipe``, all by default.

    The help is the field's docstring, and the values of the presets.
    """
    yield click.option(
        "--recipe",
        type=Names("recipe", lambda: RECIPES),
        help="Preset; paper sets the paper's localizer and no margin, too.  [default: finetune if "
        "--pretrained is given, else paper]",
    )
    texts = dict(re.findall(r"^ {8}(\w+): ((?:.|\n(?! {8}\w+: |\n))+)", Recipe.__doc__ or "", re.M))
    for field in msgspec.structs.fields(Recipe):
        if names and field.name not in names:
            continue
        text = " ".join(texts[field.name].replace("``", "").split())
        name = field.name.replace("_", "-")
        if field.name == "pretrained":
            text = "imagenet, none, or a file (torchvision's weights or a bakit checkpoint)."
        presets = "; ".join(f"{p} {_shown(getattr(r, field.name))}" for p, r in RECIPES.items())
        kind: Any = field.type
        how: dict[str, Any] = {"help": f"{text}  [{presets}]"}
        if kind is bool:
            name = f"{name}/--no-{name}"
            how["default"] = None
        elif getattr(kind, "__origin__", None) is tuple:
            how |= {"type": kind.__args__, "metavar": "LOW HIGH"}
        else:
            how["type"] = kind if kind in {int, float, str} else click.Choice(kind.__args__)
        yield click.option(f"--{name}", **how)


def _shown(value: object) -> str:
    """Return a preset's value as the user would type it."""
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value}"


def check_folders(data: Path, out: Path) -> None:
    """Raise for folders that cannot be used now: importing torch takes seconds."""
    from bakit.data.labels import read_samples

    read_samples(data)
    if out.resolve() == data.resolve():
        message = f"--out: {out} is the data folder; name another one"
        raise InputError(message)


def hardware_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``Hardware`` that every training command has as options."""
    return {name: options[name] for name in ("accelerator", "precision", "threads")}


exclude_option = click.option(
    "--exclude",
    multiple=True,
    type=PATH,
    help="Labelled folder whose ids are excluded from all splits; repeatable.",
)


def _seed_option(name: str, what: str) -> Callable[[Command], Command]:
    text = f"Seed of the {what}."
    return click.option(name, type=click.IntRange(0), default=0, help=text)


split_seed_option = _seed_option("--split-seed", "split")

training_options = several(
    click.option(
        "--localizer",
        help="Localizer: student, unrolled, or a file of bakit distill.  [default: student; for "
        "the recipe paper unrolled, with --features 90 --labels 90 --box-rule literal]",
    ),
    localizer_options,
    click.option(
        "--margin",
        type=Number(0, 1),
        help="Growth of the box on each side, as a share of its side.  [default: "
        f"{Preprocessing().margin:g}; for the recipe paper 0]",
    ),
    exclude_option,
    click.option("--skip-unreadable", is_flag=True, help="Skip images that cannot be used."),
    split_seed_option,
    _seed_option("--seed", "training"),
    click.option(
        "--accelerator",
        type=click.Choice(["auto", "cpu", "gpu"]),
        default="auto",
        help="auto: a GPU if there is one.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "32", "bf16", "16"]),
        default="auto",
        help="auto: bf16 mixed on a GPU, 32 on a CPU.",
    ),
    click.option(
        "--threads", type=click.IntRange(1, MOST_THREADS), help="CPU threads of each process."
    ),
    click.option(
        "--cache",
        type=PATH,
        help="Folder for boxes and prepared images; runs may share it.  [default: OUT/cache]",
    ),
    workers_option,
)
"""Options for image selection, localizer, hardware and image preparation."""


def make_plan(
    data: Path,
    options: Mapping[str, Any],
    architecture: Architecture,
    preprocessing: Preprocessing,
    **more: Any,  # noqa: ANN401  # fields of the plan
) -> TrainingPlan:
    """Return a plan from ``training_options`` and ``recipe_options``.

    Raises:
        BakitError: If the localizer cannot be read or has no such settings, or a number of the
            recipe is not possible.
    """
    from bakit.hand.weights import change, get_localizer
    from bakit.training.plan import TrainingPlan

    preset = options["recipe"] or default_recipe(options["pretrained"])
    fields = {name: options[name] for name in Recipe.__struct_fields__ if name in options}
    recipe = get_recipe(preset, **fields)
    names = ("exclude", "skip_unreadable", "split_seed", "seed")
    more |= {name: options[name] for name in names}
    is_paper = preset == "paper"
    source = options["localizer"] or ("unrolled" if is_paper else "student")
    changes = localizer_changes(options)
    if is_paper and source == "unrolled":
        changes = msgspec.structs.asdict(PAPER_LOCALIZER) | changes
    localizer = change(get_localizer(source), changes)
    margin = options["margin"]
    if margin is None:
        margin = 0.0 if is_paper else preprocessing.margin
    preprocessing = msgspec.structs.replace(preprocessing, margin=margin)
    return TrainingPlan(data, recipe, architecture, preprocessing, localizer, **more)


def make_progress(on_progress: OnProgress, epochs: int, prefix: str = "") -> Progress:
    """Return the progress callbacks of a training, which print lines on stderr, too."""
    from bakit.training.run import Progress

    def on_step(step: str, done: float, total: float | None) -> None:
        on_progress(f"{prefix}{step}", done, total)

    def on_epoch(epoch: Epoch, best: bool) -> None:
        left = (epochs - epoch.epoch) * epoch.seconds
        text = (
            f"{clock()} {prefix}epoch {epoch.epoch}/{epochs}: "
            f"training MAE {epoch.train_mae_months:.2f}, "
            f"validation MAE {epoch.val_mae_months:.2f} months{', best so far' * best} "
            f"({epoch.seconds:.0f} s{f'; about {duration(left)} left' if left else ''})"
        )
        echo(safe(text), err=True)

    def on_pretrained(layers: Pretrained) -> None:
        echo(safe(f"{prefix}pretrained weights: {layers}"), err=True)

    return Progress(on_step, on_epoch, on_pretrained)
