"""``bakit quality``: from a checkpoint and its data to a checkpoint that knows its limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.data.labels import known_split, read_samples, split
from bakit.errors import InputError
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.runtime import Runtime
from bakit.studies.evaluate.run import as_bundle
from bakit.studies.quality.learn import Amounts, learn_quality
from bakit.types import silent

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.types import OnProgress

ALL = Amounts()


def qualify_file(
    checkpoint: Path | None,
    data: Path,
    out: Path,
    amounts: Amounts = ALL,
    *,
    threads: int = 1,
    on_progress: OnProgress = silent,
) -> Checkpoint:
    """Learn a checkpoint's limits and write it again with them; its weights stay as they are.

    Args:
        checkpoint: The checkpoint; the shipped one when None.
        data: The labelled folder that it was trained on.
        out: File to write, ``.safetensors``; may be the checkpoint itself.
        amounts: How many pictures to learn from and to measure on.
        threads: Threads of the backend.
        on_progress: Called after each picture.

    Returns:
        The checkpoint as it was written.

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        InputError: If ``data`` is not what it was trained on, or too small.
        ImageError: If an image cannot be used.
    """
    if out.suffix != ".safetensors":
        message = f"{out}: a checkpoint ends in .safetensors"
        raise InputError(message)
    loaded = Checkpoint.read(SHIPPED if checkpoint is None else checkpoint)
    samples = read_samples(data)
    training = loaded.header.training
    parts = known_split(samples, training.split) if training else split(samples)
    if parts is None:
        message = (
            f"{data}: not the images that {loaded.path.name} was trained on; limits are learned "
            "on its training and validation parts"
        )
        raise InputError(message)
    with as_bundle(loaded.with_header(quality=None)) as bundle, Runtime(bundle, threads) as runtime:
        limits = learn_quality(runtime, parts, loaded.header.mean_months, amounts, on_progress)
    return loaded.with_header(quality=limits).write(out)
