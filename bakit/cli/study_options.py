"""Options that the commands on labelled images have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.bundle import Bundle
    from bakit.model.checkpoint import Checkpoint
    from bakit.studies.evaluate.run import Images

    Command = Callable[..., Any]


_PATH = click.Path(path_type=Path)

_MODEL_OPTIONS = (
    click.argument("data", type=_PATH),
    click.option(
        "--checkpoint",
        metavar="FILE",
        type=_PATH,
        help="The float checkpoint to judge. Default: the shipped one.",
    ),
    click.option("--bundle", metavar="DIR", type=_PATH, help="The bundle to judge instead."),
    click.option("--workers", type=click.IntRange(1), help="Processes. Default: one a CPU."),
)


def model_options(command: Command) -> Command:
    """Add the labelled folder, the model to judge, and the processes that run it."""
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command


def output_options(plots: str) -> Callable[[Command], Command]:
    """Add the folder for plots, of which ``plots`` names the files, and JSON instead of tables."""
    plots_option = click.option("--plots", metavar="DIR", type=_PATH, help=f"Draw {plots} here.")
    json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    return lambda command: plots_option(json_option(command))


def limit_option(default: int | None = None, text: str = "") -> Callable[[Command], Command]:
    """Add the largest number of images."""
    return click.option(
        "--limit",
        type=click.IntRange(min=1),
        default=default,
        show_default=default is not None,
        help=f"Use this many images, spread evenly over labels.csv{text}.",
    )


def open_study(
    data: Path,
    checkpoint: Path | None,
    bundle: Path | None,
    plots: Path | None,
    limit: int | None,
    part: Literal["auto", "all", "train", "validation", "test"] = "auto",
) -> tuple[Bundle | Checkpoint, Images]:
    """Check the folder for plots, and read the model and the labels of its images.

    Raises:
        BakitError: If one of them cannot be used.
    """
    from bakit.figures import check_plots
    from bakit.studies.evaluate.run import choose_images, open_model

    if plots is not None:
        check_plots(plots)
    model = open_model(bundle, checkpoint)
    return model, choose_images(data, model, part, limit)
