"""``bakit distill``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("distill")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="File to write, .safetensors."
)
@click.option("--images", type=int, default=4000, show_default=True, help="Images to learn from.")
@click.option("--phantoms", type=int, default=2500, show_default=True, help="Phantoms among them.")
@click.option(
    "--empties", type=int, default=600, show_default=True, help="Pictures without a hand."
)
@click.option("--steps", type=int, default=3000, show_default=True, help="Updates.")
@click.option("--batch-size", type=int, default=48, show_default=True, help="Pictures an update.")
@click.option("--learning-rate", type=float, default=3e-3, show_default=True)
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
    images: int,
    phantoms: int,
    empties: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    exclude: tuple[Path, ...],
    split_seed: int,
    workers: int | None,
) -> None:
    """Teach a small network to find the hand, from the unrolled localizer and phantoms.

    Only the training part of DATA is used, without its labels. The file is for --localizer of
    bakit train and --method of bakit localize.

    \b
    Example:
      bakit distill radiographs/ --out student.safetensors
    """
    from bakit.cli.progress import steps as progress_steps
    from bakit.training.distill import Lessons, distill

    def on_loss(step: int, loss: float) -> None:
        click.echo(f"step {step}/{steps}: loss {loss:.4f}", err=True)

    lessons = Lessons(images, phantoms, empties, steps, batch_size, learning_rate, seed)
    with progress_steps({"asking the teacher": images, "teaching": steps}) as on_step:
        student = distill(
            data,
            out,
            lessons,
            exclude=exclude,
            split_seed=split_seed,
            workers=workers,
            on_step=on_step,
            on_loss=on_loss,
        )
    click.echo(f"{out}  {sum(v.size for v in student.weights.values())} weights")
