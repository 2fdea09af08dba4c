"""A seeded choice of calibration images, stratified by age and sex."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.data.labels import Sample

AGE_BIN_MONTHS = 36
"""Width of an age stratum; seven of them span childhood."""


def choose_samples(samples: Sequence[Sample], count: int, seed: int = 0) -> list[Sample]:
    """Choose images so that each stratum of age and sex has an equal share while it lasts.

    Calibration wants the range of inputs rather than their distribution: rare ages count as much
    as common ones.

    Args:
        samples: The training part; never validation or test images.
        count: Images wanted; all of them if there are fewer.
        seed: Seed of the choice.

    Returns:
        The chosen samples, sorted by id. The choice does not depend on the order of ``samples``.

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
