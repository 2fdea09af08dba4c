"""Common options of the commands on labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import PATH, checkpoint_option

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bakit.bundle import Bundle
    from bakit.model.checkpoint import Checkpoint
    from bakit.studies.evaluate.choose import Images

    Command = Callable[..., Any]


_MODEL_OPTIONS = (
    checkpoint_option,
    click.option("--bundle", metavar="DIR", type=PATH, help="Bundle to test instead."),
    click.option("--workers", type=click.IntRange(1), help="Processes. Default: one per CPU."),
)


def model_options(command: Command) -> Command:
    """Add the model to test, and the number of processes."""
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return command


def output_options(plots: str) -> Callable[[Command], Command]:
    """Add ``--plots``, with the file names ``plots`` in its help, and ``--json``."""
    plots_option = click.option("--plots", metavar="DIR", type=PATH, help=f"Draw {plots} in DIR.")
    json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    return lambda command: plots_option(json_option(command))


def limit_option(default: int | None = None, text: str = "") -> Callable[[Command], Command]:
    """Add ``--limit``, the maximum number of images."""
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
) -> tuple[Bundle | Checkpoint, Images]:
    """Check the plot folder; return the model and the chosen images.

    Raises:
        BakitError: If one of them cannot be used.
    """
    from bakit.figures import check_plots
    from bakit.studies.evaluate.choose import choose_images
    from bakit.studies.evaluate.run import open_model

    if plots is not None:
        check_plots(plots)
    model = open_model(bundle, checkpoint)
    return model, choose_images(data, model, limit=limit)
