"""``bakit distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bakit.cli.options import PATH, workers_option
from bakit.cli.tables import echo, next_step
from bakit.cli.training_options import exclude_option, split_seed_option


@click.command("distill")
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, required=True, help="File to write, .safetensors.")
@click.option("--images", default=4000, help="Radiographs to train on.")
@click.option("--phantoms", default=2500, help="Phantoms to train on.")
@click.option("--empties", default=600, help="Generated images without a hand.")
@click.option("--steps", default=3000, help="Training steps.")
@click.option("--batch-size", default=48, help="Images per batch.")
@click.option("--learning-rate", default=3e-3, help="Peak learning rate (AdamW, one-cycle).")
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the training.")
@exclude_option
@split_seed_option
@workers_option
def command(
    data: Path,
    out: Path,
    exclude: tuple[Path, ...],
    split_seed: int,
    workers: int | None,
    **numbers: Any,  # noqa: ANN401  # the numbers of Lessons, by name
) -> None:
    """Train the student, a small hand localizer.

    Only the training split of DATA is used, without its labels. Use the file with bakit train
    --localizer and bakit localize --method.

    \b
    Example:
      bakit distill radiographs/ --out student.safetensors
    """
    from bakit.cli.progress import progress
    from bakit.training.distill import Lessons, distill

    lessons = Lessons(**numbers)

    def on_loss(step: int, loss: float) -> None:
        echo(f"step {step}/{lessons.steps}: loss {loss:.4f}", err=True)

    with progress(log=True) as on_progress:
        found = distill(
            data,
            out,
            lessons,
            exclude=exclude,
            split_seed=split_seed,
            workers=workers,
            on_progress=on_progress,
            on_loss=on_loss,
        )
    echo(f"{out}  {sum(v.size for v in found.weights.values())} weights")
    next_step(f"bakit train {data} --out run --pretrained imagenet --localizer {out}")
