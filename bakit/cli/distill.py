"""``bakit distill``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bakit.errors import InputError

if TYPE_CHECKING:
    from bakit.localizers import Localizer
    from bakit.settings import LocalizerMethod

_ONLY = {
    "empties": "student",
    "batch_size": "student",
    "learning_rate": "student",
    "candidates": "amortised",
    "references": "amortised",
    "warm_steps": "amortised",
}
"""Options of one method only."""


@click.command("distill")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="File to write, .safetensors."
)
@click.option(
    "--method",
    type=click.Choice(["student", "amortised"]),
    default="student",
    show_default=True,
    help="student: a network that learns to draw the hand. amortised: the unrolled localizer's, "
    "trained on a few reference images; the best of many candidates.",
)
@click.option(
    "--images",
    type=int,
    help="Images to learn from, 4000; of the amortised, to look for hard ones in, 1500.",
)
@click.option(
    "--phantoms",
    type=int,
    help="Phantoms to learn from, 2500; of the amortised, to choose by, 100.",
)
@click.option("--steps", type=int, help="Updates, 3000; of an amortised candidate, 60.")
@click.option(
    "--empties", type=int, default=600, show_default=True, help="Student: pictures without a hand."
)
@click.option(
    "--batch-size", type=int, default=48, show_default=True, help="Student: pictures an update."
)
@click.option(
    "--learning-rate", type=float, default=3e-3, show_default=True, help="Student: AdamW's highest."
)
@click.option("--candidates", type=int, default=96, show_default=True, help="Amortised: trainings.")
@click.option(
    "--references", type=int, default=5, show_default=True, help="Amortised: images of each."
)
@click.option(
    "--warm-steps",
    type=click.IntRange(0, 1000),
    default=0,
    show_default=True,
    help="Amortised: further updates on the very image where the hand is to be found.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--exclude",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Labelled folder whose ids are left out; may be given again.",
)
@click.option(
    "--split-seed", type=click.IntRange(0), default=0, show_default=True, help="As in bakit train."
)
@click.option("--workers", type=click.IntRange(1), help="Processes that prepare pictures.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    data: Path,
    out: Path,
    method: LocalizerMethod,
    seed: int,
    exclude: tuple[Path, ...],
    split_seed: int,
    workers: int | None,
    **numbers: float | None,
) -> None:
    """Teach a small network to find the hand.

    Only the training part of DATA is used, without its labels. The file is for --localizer of
    bakit train and --method of bakit localize.

    \b
    Example:
      bakit distill radiographs/ --out student.safetensors
      bakit distill radiographs/ --method amortised --out amortised.safetensors
    """
    for name, owner in _ONLY.items():
        if owner == method:
            continue
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = name.replace("_", "-")
            message = f"--{option} is not an option of --method {method}, but of --method {owner}"
            raise InputError(message)
        del numbers[name]
    # The shared ones have a default in each method.
    chosen: dict[str, Any] = {name: v for name, v in numbers.items() if v is not None}
    data_options: dict[str, Any] = {
        "exclude": exclude,
        "split_seed": split_seed,
        "workers": workers,
    }
    run = _student if method == "student" else _amortised
    found = run(data, out, chosen | {"seed": seed}, data_options)
    click.echo(f"{out}  {sum(v.size for v in found.weights.values())} weights")


def _student(
    data: Path, out: Path, numbers: dict[str, Any], data_options: dict[str, Any]
) -> Localizer:
    from bakit.cli.progress import steps as progress_steps
    from bakit.training.distill import Lessons, distill

    lessons = Lessons(**numbers)

    def on_loss(step: int, loss: float) -> None:
        click.echo(f"step {step}/{lessons.steps}: loss {loss:.4f}", err=True)

    totals: dict[str, int | None] = {
        "asking the teacher": lessons.images,
        "teaching": lessons.steps,
    }
    with progress_steps(totals) as on_step:
        return distill(data, out, lessons, on_step=on_step, on_loss=on_loss, **data_options)


def _amortised(
    data: Path, out: Path, numbers: dict[str, Any], data_options: dict[str, Any]
) -> Localizer:
    from bakit.cli.progress import steps as progress_steps
    from bakit.settings import AmortisedSettings
    from bakit.training.amortise import FINALISTS, Trials, amortise

    settings = AmortisedSettings(steps=numbers.pop("warm_steps"))
    trials = Trials(**numbers)

    def on_best(number: int, overlap: float) -> None:
        click.echo(f"candidate {number} of {trials.candidates}: IoU {overlap:.4f}", err=True)

    totals: dict[str, int | None] = {
        "asking the student": trials.images,
        "drawing phantoms": trials.phantoms,
        "training candidates": trials.candidates,
        "judging the best": min(FINALISTS, trials.candidates),
    }
    with progress_steps(totals) as on_step:
        found = amortise(
            data, out, trials, settings=settings, on_step=on_step, on_best=on_best, **data_options
        )
    click.echo(found.origin, err=True)
    return found
