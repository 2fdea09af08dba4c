"""Common parts of the training commands: options, plan, progress lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import PATH, Names
from bakit.cli.progress import clock, duration
from bakit.model.recipes import RECIPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bakit.model.recipes import Recipe
    from bakit.settings import Architecture, Preprocessing
    from bakit.training.callbacks import Epoch
    from bakit.training.plan import TrainingPlan
    from bakit.training.pretrained import Pretrained
    from bakit.training.run import Progress
    from bakit.types import OnProgress

    Command = Callable[..., Any]

recipe_option = click.option(
    "--recipe",
    type=Names("recipe", lambda: RECIPES),
    help="Preset.  [default: finetune if --pretrained is given, else paper]",
)

exclude_option = click.option(
    "--exclude",
    multiple=True,
    type=PATH,
    help="Labelled folder whose ids are excluded from all splits; repeatable.",
)


def _seed_option(name: str, what: str) -> Callable[[Command], Command]:
    text = f"Seed of the {what}."
    return click.option(name, type=click.IntRange(0), default=0, show_default=True, help=text)


split_seed_option = _seed_option("--split-seed", "split")
workers_option = click.option(
    "--workers", type=click.IntRange(1), help="Processes that prepare images."
)

_SHARED = (
    click.option(
        "--localizer",
        default="student",
        show_default=True,
        help="Localizer: student, unrolled, or a file of bakit distill.",
    ),
    exclude_option,
    click.option("--skip-unreadable", is_flag=True, help="Skip images that cannot be used."),
    split_seed_option,
    _seed_option("--seed", "training"),
    click.option(
        "--accelerator",
        type=click.Choice(["auto", "cpu", "gpu"]),
        default="auto",
        show_default=True,
        help="auto: a GPU if there is one.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "32", "bf16", "16"]),
        default="auto",
        show_default=True,
        help="auto: bf16 mixed on a GPU, 32 on a CPU.",
    ),
    click.option("--threads", type=click.IntRange(1), help="CPU threads of each process."),
    click.option(
        "--cache",
        type=PATH,
        help="Folder for boxes and prepared images; runs may share it.  [default: OUT/cache]",
    ),
    workers_option,
)


def training_options(command: Command) -> Command:
    """Add the options for image selection, localizer, hardware and image preparation."""
    for option in reversed(_SHARED):
        command = option(command)
    return command


def make_plan(
    data: Path,
    recipe: Recipe,
    architecture: Architecture,
    preprocessing: Preprocessing,
    options: Mapping[str, Any],
    **more: Any,  # noqa: ANN401  # fields of the plan
) -> TrainingPlan:
    """Return a plan from ``training_options``.

    Raises:
        BakitError: If the localizer cannot be read.
    """
    from bakit.hand.weights import get_localizer
    from bakit.training.plan import TrainingPlan

    names = ("exclude", "skip_unreadable", "split_seed", "seed")
    more |= {name: options[name] for name in names}
    localizer = get_localizer(options["localizer"])
    return TrainingPlan(data, recipe, architecture, preprocessing, localizer, **more)


def make_progress(on_progress: OnProgress, say: Callable[[str], None], epochs: int) -> Progress:
    """Return the progress callbacks of a training."""
    from bakit.training.run import Progress

    def on_epoch(epoch: Epoch, best: bool) -> None:
        left = duration((epochs - epoch.epoch) * epoch.seconds)
        say(
            f"{clock()} epoch {epoch.epoch}/{epochs}: training MAE {epoch.train_mae_months:.2f}, "
            f"validation MAE {epoch.val_mae_months:.2f} months{', best so far' * best} "
            f"({epoch.seconds:.0f} s; about {left} left)"
        )

    def on_pretrained(layers: Pretrained) -> None:
        say(f"pretrained weights: {layers}")

    return Progress(on_progress, on_epoch, on_pretrained)
