"""Learn bakit/weights/upright.npy: python tests/benchmarks/learn_upright.py DATA [--out FILE].

DATA is a labelled folder of upright hands, such as the training set; only the training part of the
shipped split is used. A conditional logit: each hand is shown in its four quarter turns, and the
upright one must win.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bakit.data.labels import read_samples
from bakit.data.splits import split
from bakit.export.onnx.localizer import open_localizer
from bakit.hand.prepare import find
from bakit.hand.upright import turn_features
from bakit.hand.weights import FOLDER, get_localizer
from bakit.settings import Preprocessing
from bakit.studies.quality import streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bakit.data.labels import Sample
    from bakit.hand.prepare import OpenLocalizer
    from bakit.studies.quality.streams import Shown
    from bakit.types import Floats

RIDGE = 3.0
_STEPS = 60


def learn_upright(samples: Sequence[Sample], phantoms: int, localizer: OpenLocalizer) -> Floats:
    """Return the weights, ``(N,)`` float32.

    Args:
        samples: Films of upright hands; every second one is tilted by a few degrees.
        phantoms: Number of phantoms.
        localizer: The localizer.
    """
    rows = _features(streams.radiographs(samples[::2]), localizer)
    rows += _features(
        streams.turned(samples[1::2], lambda rng: float(rng.normal(0, 10))), localizer
    )
    rows += _features(streams.phantoms(phantoms), localizer)
    return _conditional_logit(np.array(rows)).astype(np.float32)


def _features(pictures: Iterable[Shown], localizer: OpenLocalizer) -> list[Floats]:
    found = []
    for shown in pictures:
        output, hand = find(shown.grey, localizer, Preprocessing())
        if output is not None and hand.box is not None:
            found.append(turn_features(output, inverted=hand.inverted))
    return found


def _conditional_logit(turns: Floats) -> Floats:
    """Fit weights by Newton's method; the first of each row's four turns is the right one."""
    spread = turns.reshape(-1, turns.shape[-1]).std(0) + 1e-6
    rows = turns / spread
    weights = np.zeros(rows.shape[-1])
    for _ in range(_STEPS):
        scores = rows @ weights
        odds = np.exp(scores - scores.max(1, keepdims=True))
        odds /= odds.sum(1, keepdims=True)
        mean = (odds[:, :, None] * rows).sum(1)
        around = rows - mean[:, None]
        slope = (mean - rows[:, 0]).sum(0) + RIDGE * weights
        curve = np.einsum("nk,nkd,nke->de", odds, around, around, optimize=True)
        step = np.linalg.solve(curve + RIDGE * np.eye(len(weights)), slope)
        weights -= step
        if float(np.abs(step).max()) < 1e-6:
            break
    found: Floats = weights / spread
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--localizer", default="student")
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--phantoms", type=int, default=600)
    parser.add_argument("--out", type=Path, default=FOLDER / "upright.npy")
    options = parser.parse_args()
    chosen = get_localizer(options.localizer)
    localizer = open_localizer(chosen.weights, chosen.settings, 1)
    train = split(read_samples(options.data)).train[: options.images]
    np.save(options.out, learn_upright(train, options.phantoms, localizer))
    print(options.out)


if __name__ == "__main__":
    main()
