"""The choice of calibration images: seeded, stratified by age and sex, never held-out ones."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from bakit.data.labels import known_split, read_samples
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.data.labels import Sample
    from bakit.model.checkpoint import Checkpoint

SAMPLES = 256
"""Calibration images by default."""

MIN_SAMPLES = 32
"""Fewer images do not show what values an activation takes."""

AGE_BIN_MONTHS = 36
"""Width of an age stratum; seven of them span childhood."""


def choose_samples(samples: Sequence[Sample], count: int, seed: int = 0) -> list[Sample]:
    """Choose images so that each stratum of age and sex has an equal share while it lasts.

    Calibration needs the range of inputs rather than their distribution: rare ages count as much
    as common ones.

    Returns:
        ``count`` samples, or all if there are fewer, sorted by id. The choice does not depend on
        the order of ``samples``.

    Raises:
        InputError: If ``count`` or ``samples`` is empty.
    """
    if count < 1 or not samples:
        message = f"{count} calibration images of {len(samples)} training images: at least 1 needed"
        raise InputError(message)
    rng = np.random.default_rng(seed)
    strata: dict[tuple[int, bool], list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda s: s.id):
        strata[int(sample.age_months // AGE_BIN_MONTHS), sample.male].append(sample)
    queues = []
    for key in sorted(strata):
        members = strata[key]
        queues.append([members[index] for index in rng.permutation(len(members))])
    chosen: list[Sample] = []
    while queues and len(chosen) < count:
        for queue in queues:
            if len(chosen) < count:
                chosen.append(queue.pop())
        queues = [queue for queue in queues if queue]
    return sorted(chosen, key=lambda s: s.id)


def calibration_samples(
    checkpoint: Checkpoint, data: Path, count: int, seed: int, *, all_images: bool = False
) -> tuple[list[Sample], list[Sample]]:
    """Choose the images to calibrate on, and return those to judge a recipe on.

    Args:
        checkpoint: The float checkpoint.
        data: The labelled folder that the checkpoint was trained on. Only the training part of
            its 7:2:1 split is calibrated on, and the validation part is for recipes.
        count: Calibration images.
        seed: Seed of the choice.
        all_images: Use any image of the folder, which shares none with the training data; then
            there are none to judge on.

    Raises:
        InputError: If it is another folder than the checkpoint was trained on, or there are too
            few images, or of one sex only.
        LabelsError: If the folder cannot be read.
    """
    usable, held_out = _parts(checkpoint, data, all_images=all_images)
    chosen = choose_samples(usable, count, seed)
    if len(chosen) < MIN_SAMPLES:
        message = (
            f"{data}: {len(chosen)} calibration images; at least {MIN_SAMPLES} are needed, some "
            "hundred are better"
        )
        raise InputError(message)
    if checkpoint.header.architecture.sex and len({sample.male for sample in chosen}) == 1:
        sex = "boys" if chosen[0].male else "girls"
        message = f"{data}: all calibration images are of {sex}; the model needs both sexes"
        raise InputError(message)
    return chosen, held_out


def _parts(
    checkpoint: Checkpoint, data: Path, *, all_images: bool
) -> tuple[list[Sample], list[Sample]]:
    record = checkpoint.header.training
    samples = read_samples(data)
    if all_images:
        return samples, []
    if record is None:
        message = f"{checkpoint.path}: does not say what it was trained on; use --all-images"
        raise InputError(message)
    parts = known_split(samples, record.split)
    if parts is None:
        message = (
            f"{data}: not the folder that {checkpoint.name} was trained on, so its training "
            "images cannot be told from its test images; calibrate on that folder, or with "
            "bakit calibrate --all-images on one that shares no image with it"
        )
        raise InputError(message)
    return list(parts.train), list(parts.validation)
