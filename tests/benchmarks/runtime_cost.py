"""What ``Runtime.predict`` costs beside the bare libraries, and beside the paper's pipeline.

    python tests/benchmarks/runtime_cost.py BUNDLE ../shared/data/originals/images

In turns on the same image: OpenCV decoding the file, the bare regressor's session on a prepared
crop, the whole prediction, the prediction without quality control, and (``--paper``) the
straightforward PyTorch pipeline: autograd's 50 steps with the paper's p = q = 90 on 128 pixels,
then the eager regressor. What counts is the median of the ratio within a turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import cv2
import numpy as np

from bakit.bundle import Bundle
from bakit.hand.prepare import crop
from bakit.hand.working import working_image
from bakit.image.read import decode
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.runtime import Runtime


def main() -> None:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, help="folder of image files")
    parser.add_argument("--rounds", type=int, default=5, help="turns on each image")
    parser.add_argument(
        "--least", type=float, default=0, help="leave out images of fewer megapixels"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--paper", action="store_true", help="the PyTorch pipeline, once an image")
    given = parser.parse_args()
    cv2.setNumThreads(given.threads)
    runtime = Runtime(Bundle.read(given.bundle), given.threads)
    plain = Runtime(Bundle.read(given.bundle), given.threads)
    plain._judge._hands = None  # the same path, nothing judged
    names = ("decode", "regress", "predict", "without_hand_model")
    times: dict[str, list[float]] = {name: [] for name in names}
    ratios, paper, megapixels = [], [], []
    files = sorted(path for path in given.images.iterdir() if path.suffix == ".png")
    for path in files:
        data = path.read_bytes()
        grey = decode(data)
        if grey.size < given.least * 1e6:
            continue
        megapixels.append(grey.size / 1e6)
        pixels = runtime.prepare(grey).pixels
        runs = {
            "decode": lambda data=data: cv2.imdecode(
                np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
            ),
            "regress": lambda pixels=pixels: runtime.regress(pixels, male=True),
            "predict": lambda data=data: runtime.predict(data, "M"),
            "without_hand_model": lambda data=data: plain.predict(data, "M"),
        }
        for run in runs.values():
            run()
        for _ in range(given.rounds):
            took = {name: _seconds(run) for name, run in runs.items()}
            for name, seconds in took.items():
                times[name].append(seconds * 1000)
            ratios.append(took["predict"] / (took["decode"] + took["regress"]))
        if given.paper:
            paper.append(_seconds(_paper_pipeline(data)) / took["predict"])
    found = {
        "images": len(megapixels),
        "median_megapixels": round(statistics.median(megapixels), 2),
        "p50_ms": {name: round(statistics.median(values), 2) for name, values in times.items()},
        "predict_over_bare": round(statistics.median(ratios), 3),
        "paper_over_predict": round(statistics.median(paper), 1) if paper else None,
        "threads": given.threads,
    }
    print(json.dumps(found, indent=2))


def _seconds(run) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _paper_pipeline(data: bytes):
    import torch

    from bakit.hand.regions import hand_candidates
    from bakit.hand.unrolled import initial_weights
    from bakit.image.box import bounds
    from bakit.model.localizers import localize_autograd
    from bakit.model.regressor import regressor_from_weights
    from bakit.settings import UnrolledSettings

    settings = UnrolledSettings(size=128, features=90, labels=90)
    weights = {name: torch.from_numpy(v) for name, v in initial_weights(settings).items()}
    checkpoint = Checkpoint.read(SHIPPED)
    tensors = {name: torch.from_numpy(v) for name, v in checkpoint.regressor.items()}
    model = regressor_from_weights(checkpoint.header.architecture, tensors)

    def run() -> None:
        grey = decode(data)
        working = working_image(grey, settings.size)
        labels = localize_autograd(torch.from_numpy(working), weights, settings).numpy()
        candidates = hand_candidates(labels, working)
        box = bounds(candidates[0].mask).scale(working.shape, grey.shape) if candidates else None
        pixels = crop(grey, box, False, checkpoint.header.preprocessing)
        with torch.inference_mode():
            model(torch.from_numpy(pixels[None, None]), torch.ones(1, 1))

    return run


if __name__ == "__main__":
    main()
