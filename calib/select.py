"""Select calibration images: seeded, stratified by age and sex, never held-out images."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from bakit.data.labels import read_samples
from bakit.data.splits import known_split
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.data.labels import Sample
    from bakit.model.checkpoint import Checkpoint

SAMPLES = 256
"""Default number of calibration images."""

MIN_SAMPLES = 32
"""Minimum number of calibration images; fewer do not cover the activation ranges."""

AGE_BIN_MONTHS = 36
"""Width of an age stratum."""


def choose_samples(samples: Sequence[Sample], count: int, seed: int = 0) -> list[Sample]:
    """Select images with equal numbers from each stratum of age and sex, as far as possible.

    Calibration needs the range of inputs, not their distribution, so rare ages count fully.

    Returns:
        ``count`` samples, or all if there are fewer, sorted by id. The choice does not depend on
        the order of ``samples``.
    """
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
    """Return the calibration set and the validation images for a recipe search.

    The calibration set comes from the training split of ``data``; with ``all_images``, from all
    images of a folder that shares none with the validation and test splits, and there are no
    validation images.

    Raises:
        InputError: If ``data`` is not the training folder, or has too few images, or images of one
            sex only.
        LabelsError: If the folder cannot be read.
    """
    usable, held_out = _parts(checkpoint, data, all_images=all_images)
    chosen = choose_samples(usable, count, seed)
    if len(chosen) < MIN_SAMPLES:
        message = (
            f"{data}: {len(chosen)} calibration images; at least {MIN_SAMPLES} are needed, and a "
            "few hundred are better"
        )
        raise InputError(message)
    if checkpoint.header.architecture.sex and len({sample.male for sample in chosen}) == 1:
        sex = "boys" if chosen[0].male else "girls"
        message = f"{data}: all calibration images show {sex}; the model needs both sexes"
        raise InputError(message)
    return chosen, held_out


def _parts(
    checkpoint: Checkpoint, data: Path, *, all_images: bool
) -> tuple[list[Sample], list[Sample]]:
    record = checkpoint.header.training
    samples = read_samples(data)
    if all_images:
        known = None if record is None else known_split(samples, record.split)
        held_out = set() if known is None else {s.id for s in (*known.validation, *known.test)}
        if held_out:
            message = (
                f"{data}: {len(held_out)} images are in the validation or test split of "
                f"{checkpoint.name}, on which INT8 is judged; leave --all-images out to use its "
                "training images"
            )
            raise InputError(message)
        return samples, []
    if record is None:
        message = f"{checkpoint.path}: has no record of its training data; use --all-images"
        raise InputError(message)
    parts = known_split(samples, record.split)
    if parts is None:
        message = (
            f"{data}: has no training image of {checkpoint.name}; use its training folder, or "
            "bakit calibrate --all-images for images that it has never seen"
        )
        raise InputError(message)
    return list(parts.train), list(parts.validation)
