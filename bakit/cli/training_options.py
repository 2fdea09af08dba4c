"""What the commands that train have in common: options, and what is said of an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakit.recipes import RECIPES

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.training.callbacks import Epoch

    Command = Callable[..., Any]

recipe_option = click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    help="Preset.  [default: finetune if --pretrained is given, else paper]",
)


def data_options(command: Command) -> Command:
    """Add what chooses the images of a training, and its seeds."""
    for option in reversed(
        (
            click.option(
                "--exclude",
                multiple=True,
                type=click.Path(path_type=Path),
                help="Labelled folder whose ids are left out of all parts; may be given again.",
            ),
            click.option(
                "--skip-unreadable", is_flag=True, help="Leave out images that cannot be used."
            ),
            click.option(
                "--split-seed",
                type=click.IntRange(0),
                default=0,
                show_default=True,
                help="Seed of the split.",
            ),
            click.option(
                "--seed",
                type=click.IntRange(0),
                default=0,
                show_default=True,
                help="Seed of the training.",
            ),
        )
    ):
        command = option(command)
    return command


localizer_option = click.option(
    "--localizer",
    default="student",
    show_default=True,
    help="Localizer: student, unrolled, or a file of bakit distill.",
)


def accelerator_options(command: Command) -> Command:
    """Add what a training runs on."""
    precision = click.option(
        "--precision",
        type=click.Choice(["auto", "32", "bf16", "16"]),
        default="auto",
        show_default=True,
        help="auto: bf16 mixed on a GPU, 32 on a CPU.",
    )
    accelerator = click.option(
        "--accelerator",
        type=click.Choice(["auto", "cpu", "gpu"]),
        default="auto",
        show_default=True,
        help="auto takes a GPU where there is one.",
    )
    return accelerator(precision(command))


def preparation_options(command: Command) -> Command:
    """Add who prepares images, and where they are kept."""
    cache = click.option(
        "--cache",
        type=click.Path(path_type=Path),
        help="Folder for boxes and prepared images, which runs may share.  [default: OUT/cache]",
    )
    workers = click.option(
        "--workers", type=click.IntRange(1), help="Processes that prepare images."
    )
    return workers(cache(command))


def epoch_line(epoch: Epoch, epochs: int, *, best: bool) -> str:
    """Return what is said of an epoch of a training."""
    return (
        f"epoch {epoch.epoch}/{epochs}: training MAE {epoch.train_mae_months:.2f}, "
        f"validation MAE {epoch.val_mae_months:.2f} months{', the best so far' * best} "
        f"({epoch.seconds:.0f} s)"
    )
