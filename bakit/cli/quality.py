"""``bakit quality``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bakit.cli.options import PATH, checkpoint_option, json_option
from bakit.cli.tables import echo, echo_json, next_step, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.quality.limits import QualityLimits


@click.command("quality")
@click.argument("data", type=PATH)
@checkpoint_option
@click.option(
    "--out",
    type=PATH,
    required=True,
    help="Checkpoint to write, with the limits; may be --checkpoint itself.",
)
@click.option("--threads", type=click.IntRange(1), default=1, help="Threads of the model.")
@json_option("Print limits and rates as JSON.")
def command(data: Path, checkpoint: Path | None, out: Path, threads: int, *, as_json: bool) -> None:
    """Fit the image-quality limits (accept, review, reject) and write them into a checkpoint.

    DATA is the training folder of the checkpoint. The limits are fitted on its training and
    validation splits and on images without a hand. They are tested on its test split and on
    held-out kinds of images.

    \b
    Example:
      bakit quality radiographs/ --checkpoint run/best.safetensors --out run/best.safetensors
    """
    from bakit.cli.progress import progress
    from bakit.studies.quality.learn import qualify_file

    with progress() as on_progress:
        written = qualify_file(checkpoint, data, out, threads=threads, on_progress=on_progress)
    limits = written.header.quality
    assert limits is not None
    if as_json:
        echo_json(limits)
        return
    print_limits(limits)
    echo(f"{out}  {written.sha256}")
    next_step(f"bakit export {out} --target onnx --precision fp32,int8")


def print_limits(limits: QualityLimits) -> None:
    """Print the rates of each limit and of all limits together."""
    columns = ("reason", "measure", "review", "reject", "good images\nreviewed", "rejected")
    rows = []
    for item in limits.limits:
        sign = ">" if item.worse == "above" else "<"
        rows.append(
            (
                item.code,
                item.measure,
                "" if item.review is None else f"{sign} {item.review:g}",
                "" if item.reject is None else f"{sign} {item.reject:g}",
                f"{item.good.reviewed} of {item.good.samples}",
                f"{item.good.rejected} of {item.good.samples}",
            )
        )
    print_table("Limits", columns, rows)
    rates = {"good radiographs": limits.good, **limits.caught}
    together = [
        (kind, f"{r.rejected}", f"{r.reviewed}", f"{r.samples}") for kind, r in rates.items()
    ]
    print_table("All limits together", ("images", "rejected", "reviewed", "of"), together)
