"""Learn bakit/weights/upright.npy: python tests/benchmarks/learn_upright.py DATA [--out FILE].

DATA is a labelled folder of upright hands, such as the training set; only the training part of the
shipped split is used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bakit.data.labels import read_samples, split
from bakit.export.onnx.localizer import open_localizer
from bakit.hand.weights import FOLDER, get_localizer
from bakit.studies.quality.upright import learn_upright


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
