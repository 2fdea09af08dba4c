"""Speed of the exported localizers beside torch autograd, and whether they find the same hand.

    python tests/benchmarks/localizer_speed.py
    python tests/benchmarks/localizer_speed.py --originals originals

Everything runs in turns on the same image, so that a busy machine slows all alike; what counts is
the median over rounds of the ratio within a round. A neighbour still slows most whichever library
waits most for its other thread, which is torch: ratios from a busy machine flatter the graphs.
Without ``--originals`` phantoms are used. A round takes half a minute on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnxruntime
import torch

from bakit.backends.ort import OrtSession
from bakit.export.onnx.localizer import localizer_model, open_localizer
from bakit.export.onnx.writer import serialize
from bakit.hand.found import LocalizerOutput
from bakit.hand.locate import choose_hand
from bakit.hand.regions import hand_candidates
from bakit.hand.unrolled import initial_weights
from bakit.hand.weights import get_localizer
from bakit.hand.working import working_image
from bakit.image.read import decode
from bakit.model.localizers import localize_autograd
from bakit.phantoms import make_phantom
from bakit.settings import UnrolledSettings

try:
    import openvino
except ModuleNotFoundError:
    openvino = None

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from bakit.image.box import Box
    from bakit.settings import LocalizerForm

    Run = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.generic]]

PAPER = UnrolledSettings(size=128, features=90, labels=90)
FORMS: tuple[LocalizerForm, ...] = ("loop", "winograd")


def main() -> None:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=8, help="a round is one image")
    parser.add_argument("--skip", type=int, default=0, help="images before the first round's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--originals", type=Path, help="folder with images/, real radiographs")
    parser.add_argument("--steps", type=int, default=PAPER.steps, help="of the paper's settings")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    greys = _greys(given.originals, given.skip, given.rounds)
    paper = msgspec.structs.replace(PAPER, steps=given.steps)
    runs = {"autograd": _autograd(paper)} | _exported(paper, "paper", given.threads)
    runs |= _exported(UnrolledSettings(), "shipped", given.threads)
    student = get_localizer("student")
    session = open_localizer(student.weights, student.settings, given.threads).session
    runs["student"] = lambda image: session.run({"image": image[None, None]})["hand"]
    sizes = {"student": student.settings.size}
    times: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    overlaps: dict[str, list[float]] = {name: [] for name in runs if "paper" in name}
    for grey in greys:
        reference: Box | None = None
        for name, run in runs.items():
            side = sizes.get(name, UnrolledSettings().size if "shipped" in name else paper.size)
            image = working_image(grey, side)
            repeats = 1 if side == paper.size else 5
            took, used = [], time.process_time()
            for _ in range(repeats):
                started = time.perf_counter()
                output = run(image)
                took.append(time.perf_counter() - started)
            cpu[name].append((time.process_time() - used) / repeats)
            times[name].append(statistics.median(took))
            if name == "autograd":
                reference = _box(output, image, grey)
            elif name in overlaps:
                overlaps[name].append(_iou(_box(output, image, grey), reference))
    found = {
        "rounds": len(greys),
        "images": "real" if given.originals else "phantoms",
        "threads": given.threads,
        "versions": {
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
            "openvino": openvino.__version__ if openvino else None,
        },
        "median_ms": {n: round(statistics.median(t) * 1e3, 2) for n, t in times.items()},
        "times_faster_than_autograd": _ratios(times),
        "times_less_cpu_than_autograd": _ratios(cpu),
        "box_iou_with_autograd": {n: round(float(np.mean(v)), 4) for n, v in overlaps.items()},
        "writing_and_loading_s": _export_times(given.threads),
    }
    print(json.dumps(found, indent=2))


def _ratios(times: dict[str, list[float]]) -> dict[str, float]:
    """Return by how much each is faster than autograd: the median of the rounds' ratios."""
    return {
        name: round(statistics.median(a / b for a, b in zip(times["autograd"], t, strict=True)), 2)
        for name, t in times.items()
    }


def _greys(originals: Path | None, skip: int, count: int) -> list[npt.NDArray[np.float32]]:
    if originals:
        return [decode(path) for path in sorted((originals / "images").iterdir())[skip:][:count]]
    return [decode(make_phantom(seed, height=320).image) for seed in range(skip, skip + count)]


def _autograd(settings: UnrolledSettings) -> Run:
    weights = {name: torch.from_numpy(v) for name, v in initial_weights(settings).items()}
    return lambda image: localize_autograd(torch.from_numpy(image), weights, settings).numpy()


def _exported(settings: UnrolledSettings, label: str, threads: int) -> dict[str, Run]:
    """Return every form in every runtime that is there."""
    runs: dict[str, Run] = {}
    for form in FORMS:
        model = serialize(localizer_model(initial_weights(settings), settings, form))
        runs[f"{label} {form} onnxruntime"] = _ort(model, threads)
        if openvino:
            runs[f"{label} {form} openvino"] = _openvino(model, threads)
    return runs


def _ort(model: bytes, threads: int) -> Run:
    session = OrtSession(model, threads)
    return lambda image: session.run({"image": image[None, None]})["labels"]


def _openvino(model: bytes, threads: int) -> Run:
    core = openvino.Core()
    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(core.read_model(model), "CPU", options).create_infer_request()

    def run(image: npt.NDArray[np.float32]) -> npt.NDArray[np.generic]:
        request.infer({"image": image[None, None]})
        labels: npt.NDArray[np.generic] = request.get_output_tensor(0).data.copy()
        return labels

    return run


def _box(
    labels: npt.NDArray[np.generic], image: npt.NDArray[np.float32], grey: npt.NDArray[np.float32]
) -> Box | None:
    labels = labels.astype(np.int32, copy=False)
    regions = hand_candidates(labels, image)
    return choose_hand(LocalizerOutput(image, labels, regions), (grey.shape[0], grey.shape[1])).box


def _iou(box: Box | None, reference: Box | None) -> float:
    if box is None or reference is None:
        return float(box is reference)
    return box.iou(reference)


def _export_times(threads: int) -> dict[str, list[float]]:
    """Return the seconds for writing and for loading in ONNX Runtime, 50 steps, paper's p and q."""
    weights = initial_weights(PAPER)
    found = {}
    for form in ("loop", "unrolled", "winograd"):
        started = time.perf_counter()
        model = serialize(localizer_model(weights, PAPER, form))
        written = time.perf_counter()
        OrtSession(model, threads)
        loaded = time.perf_counter()
        found[form] = [round(written - started, 2), round(loaded - written, 2)]
    return found


if __name__ == "__main__":
    main()
