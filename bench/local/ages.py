"""Predict all labelled images with all bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bakit.bench.drift.compare import check_age
from bakit.bench.local.process import WorkerError
from bakit.bench.raw import Reading
from bakit.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from bakit.bench.local.process import Seen, Worker
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.types import OnProgress


class AgeRun:
    """Predicts every image with every bundle.

    Localization is the slowest stage and is deterministic, so bundles with the same localizer
    file and target share the box of each image.

    The order of the images is random, so that an interrupted run has a representative sample. A
    bundle that fails is skipped from then on.
    """

    def __init__(self, workers: Sequence[Worker], samples: Sequence[Sample]) -> None:
        self._workers = workers
        self._samples = samples
        self._readings: list[dict[int, Reading]] = [{} for _ in workers]
        self._done: list[int] = []

    @property
    def done(self) -> list[Sample]:
        """The images predicted by all working bundles, in the order of ``samples``."""
        return [self._samples[index] for index in sorted(self._done)]

    def measure(self, on_progress: OnProgress = lambda step, done, total: None) -> None:
        """Predict all images.

        Raises:
            ImageError: If an image cannot be used; none is skipped.
        """
        for index in np.random.default_rng(0).permutation(len(self._samples)).tolist():
            self._measure_one(index)
            self._done.append(index)
            on_progress("drift", len(self._done), len(self._samples))

    def _measure_one(self, index: int) -> None:
        sample = self._samples[index]
        located: dict[Hashable, Seen] = {}
        for row, worker in enumerate(self._workers):
            if worker.error is not None:
                continue
            key = localizer_key(worker.bundle)
            try:
                predicted = worker.ask(sample, located.get(key))
                located[key] = predicted.seen
                check_age(predicted.age_months, worker.bundle, sample)
            except WorkerError:
                continue
            except VerificationError as error:
                worker.fail(str(error))
                continue
            box = predicted.seen.box or predicted.seen.whole
            self._readings[row][index] = Reading(sample.id, predicted.age_months, box)

    def readings(self, row: int) -> tuple[Reading, ...]:
        """Return the ages of the images in ``done``; none if the bundle failed."""
        if self._workers[row].error is not None:
            return ()
        return tuple(self._readings[row][index] for index in sorted(self._done))


def localizer_key(bundle: Bundle) -> Hashable:
    """Return a key that is equal for bundles that locate the same box in every image."""
    manifest = bundle.manifest
    return (
        manifest.target,
        tuple(sorted(bundle.artifact("localizer").files.values())),
        manifest.preprocessing.localize,
    )
