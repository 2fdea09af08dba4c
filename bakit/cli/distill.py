"""``bakit distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("distill")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="File to write, .safetensors."
)
@click.option("--images", default=4000, show_default=True, help="Images to learn from.")
@click.option("--phantoms", default=2500, show_default=True, help="Phantoms to learn from.")
@click.option("--empties", default=600, show_default=True, help="Pictures without a hand.")
@click.option("--steps", default=3000, show_default=True, help="Updates.")
@click.option("--batch-size", default=48, show_default=True, help="Pictures an update.")
@click.option(
    "--learning-rate", default=3e-3, show_default=True, help="AdamW's highest, one-cycle."
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
def command(
    data: Path,
    out: Path,
    exclude: tuple[Path, ...],
    split_seed: int,
    workers: int | None,
    **numbers: Any,  # noqa: ANN401  # the numbers of Lessons, by name
) -> None:
    """Train the student, a small network that finds the hand.

    Only the training part of DATA is used, without its labels. The file is for --localizer of
    bakit train and --method of bakit localize.

    \b
    Example:
      bakit distill radiographs/ --out student.safetensors
    """
    from bakit.cli.progress import steps
    from bakit.training.distill import Lessons, distill

    lessons = Lessons(**numbers)

    def on_loss(step: int, loss: float) -> None:
        click.echo(f"step {step}/{lessons.steps}: loss {loss:.4f}", err=True)

    totals: dict[str, int | None] = {
        "asking the teacher": lessons.images,
        "teaching": lessons.steps,
    }
    with steps(totals) as on_step:
        found = distill(
            data,
            out,
            lessons,
            exclude=exclude,
            split_seed=split_seed,
            workers=workers,
            on_step=on_step,
            on_loss=on_loss,
        )
    click.echo(f"{out}  {sum(v.size for v in found.weights.values())} weights")
