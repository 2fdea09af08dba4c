"""Activation statistics of the float regressor on the calibration set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from bakit.backends.ort import OrtSession
from bakit.types import silent, track

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.calib.dataset import CalibrationSet
    from bakit.session import Tensors
    from bakit.types import Floats, OnProgress


BINS: Final = 2048
TAIL: Final = 99.99
"""Percentile per image for ``tails``; the lower one is ``100 - TAIL``."""


class Statistics(NamedTuple):
    """Statistics of ``T`` tensors on ``N`` images.

    Attributes:
        names: Names of the tensors.
        low: ``(T,)`` float64, minimum.
        high: ``(T,)`` float64, maximum.
        tails: ``(T, 2, N)`` float64: lower and upper ``TAIL`` percentile per image.
        counts: ``(T, BINS)`` int64: histogram from ``low`` to ``high``.
    """

    names: tuple[str, ...]
    low: Floats
    high: Floats
    tails: Floats
    counts: npt.NDArray[np.int64]


def gather(
    model: bytes, calibration: CalibrationSet, on_progress: OnProgress = silent
) -> Statistics:
    """Run the float model twice on the calibration set: for the extremes and the histograms.

    The model's outputs are the observed tensors; its inputs are observed too.
    """
    with OrtSession(model, threads=1) as session:

        def observe(feeds: Tensors) -> dict[str, Floats]:
            fed = {spec.name: feeds[spec.name] for spec in session.specs[0]}
            return {
                name: np.asarray(values, np.float64)
                for name, values in {**session.run(fed), **fed}.items()
            }

        low: dict[str, float] = {}
        high: dict[str, float] = {}
        tails: dict[str, list[tuple[float, float]]] = {}
        for feeds in track(calibration, "activation ranges", on_progress):
            for name, values in observe(feeds).items():
                low[name] = min(low.get(name, np.inf), float(values.min()))
                high[name] = max(high.get(name, -np.inf), float(values.max()))
                bottom, top = np.percentile(values, (100 - TAIL, TAIL))
                tails.setdefault(name, []).append((float(bottom), float(top)))
        counts = {name: np.zeros(BINS, np.int64) for name in low}
        for feeds in track(calibration, "activation histograms", on_progress):
            for name, values in observe(feeds).items():
                ends = (low[name], high[name] + (high[name] <= low[name]))
                counts[name] += np.histogram(values, BINS, ends)[0]
    names = tuple(sorted(low))
    return Statistics(
        names,
        np.array([low[name] for name in names]),
        np.array([high[name] for name in names]),
        np.array([tails[name] for name in names]).transpose(0, 2, 1),
        np.array([counts[name] for name in names]),
    )
