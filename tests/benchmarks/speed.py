"""Every figure of speed in one run, beside the bare libraries: bar, value, held or missed.

    python tests/benchmarks/speed.py [FILM.png] [--rounds 15] [--plot docs/images/growth.png]

Exports the shipped checkpoint for ONNX Runtime and OpenVINO, FP32 and INT8, and runs all in turns
on the same film with one thread. A turn has 5 runs, whose median counts, as the first one finds
other data in the caches; ratios are medians over rounds of the ratio within a round. The
default film is a phantom of 3 megapixels. ``--plot`` draws the time against megapixels, threads
and images. One minute on two idle cores.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnxruntime
import torch

from bakit.export import export_bundle
from bakit.figures import new_figure, save_figures
from bakit.hand.prepare import find
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.model.regressor import regressor_from_weights
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.targets import get_target
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from bakit.bundle import Bundle

TURN = 5
"""Runs in a turn."""

LOAD = """
import sys, time, numpy, cv2
from bakit.runtime import Runtime
import bakit.backends.{module}
start = time.perf_counter()
Runtime(sys.argv[1], 1)
print((time.perf_counter() - start) * 1000)
"""

MEMORY = """
import sys, numpy, onnxruntime
def peak():  # not getrusage's, which begins with that of the process before exec
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines["VmHWM"].split()[0]) / 1024
before = peak()
from bakit.runtime import Runtime
Runtime(sys.argv[1], 1).predict(sys.argv[2], "F", allow_rejected=True)
print(peak() - before)
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("film", nargs="?", type=Path, help="PNG of 8-bit grey values")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--plot", type=Path, help="PNG of the time's growth, to be written")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        film = given.film or Path(folder) / "film.png"
        if given.film is None:
            cv2.imwrite(str(film), make_phantom(3, height=2000).image)
        checkpoint = Checkpoint.read(SHIPPED)
        bundles = {
            (target, precision.value): export_bundle(
                checkpoint, target, precision, Path(folder) / f"{target}-{precision.value}"
            )
            for target in ("onnx", "openvino")
            for precision in (Precision.FP32, Precision.INT8)
        }
        whole = export_bundle(
            checkpoint, "onnx", Precision.FP32, Path(folder) / "whole", whole=True
        )
        print("| | bar | value | |\n| --- | --- | --- | --- |")
        _alternate(checkpoint, bundles, whole, film.read_bytes(), given.rounds)
        for target, module, bar in (("onnx", "ort", 100), ("openvino", "openvino", 200)):
            root = bundles[target, "fp32"].root
            took = [_printed(LOAD.format(module=module), root) for _ in range(5)]
            _row(f"load, {target}, ms above import", bar, statistics.median(took))
        memory = _printed(MEMORY, bundles["onnx", "fp32"].root, film)
        _row("peak memory of a prediction, MB above Python, NumPy, ONNX Runtime", 120, memory)
        if given.plot:
            runs = _growth(bundles["onnx", "fp32"], max(given.rounds // 5, 1))
            save_figures({given.plot.name: lambda: _drawn(runs)}, given.plot.parent)


def _alternate(
    checkpoint: Checkpoint,
    bundles: dict[tuple[str, str], Bundle],
    with_whole: Bundle,
    data: bytes,
    rounds: int,
) -> None:
    """Run everything in turns, and print the rows of ratios and times."""
    fp32 = bundles["onnx", "fp32"]
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    small = cv2.resize(pixels, (299, 299), interpolation=cv2.INTER_AREA)
    weights = {name: torch.from_numpy(value) for name, value in checkpoint.regressor.items()}
    eager = regressor_from_weights(checkpoint.header.architecture, weights).eval()
    with Runtime(fp32, 1) as runtime, Runtime(with_whole, 1, whole=True) as whole:
        image = runtime.prepare(pixels).pixels[None, None]
        sex = np.ones((1, 1), np.float32)
        feeds = {"image": image, "sex": sex}
        tensors = torch.from_numpy(image), torch.from_numpy(sex)
        preprocessing = fp32.manifest.preprocessing
        working = np.zeros((1, 1, *[fp32.manifest.localizer.size] * 2), np.float32)
        runs: dict[str, Callable[[], object]] = {
            "decode": lambda: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE),
            "predict": lambda: runtime.predict(data, "M", allow_rejected=True),
            "two": lambda: runtime.regress(runtime.prepare(pixels).pixels, male=True),
            "whole": lambda: whole._whole.run({"film": pixels, "sex": sex}),
            "two small": lambda: runtime.regress(runtime.prepare(small).pixels, male=True),
            "whole small": lambda: whole._whole.run({"film": small, "sex": sex}),
            "localize": lambda: find(small, runtime.localizer, preprocessing),
            "network": lambda: runtime.localizer.session.run({"image": working}),
            "bare": _bare(fp32, feeds),
            "eager": lambda: _eager(eager, tensors),
        }
        for (target, precision), bundle in bundles.items():
            runs[f"{target} {precision}"] = _regressor(bundle, feeds)
        times = _times(runs, rounds)

    def ratio(over: str, *under: str) -> float:
        sums = (sum(parts) for parts in zip(*(times[name] for name in under), strict=True))
        return statistics.median(a / b for a, b in zip(times[over], sums, strict=True))

    def p50_ms(name: str) -> float:
        return statistics.median(times[name])

    size = f"{pixels.size / 1e6:.1f} MP"
    _row(
        f"{size}: prediction / (cv2 decode + bare session)",
        1.2,
        ratio("predict", "decode", "bare"),
    )
    for target in ("onnx", "openvino"):
        _row(f"{target}: INT8 / FP32", 0.6, ratio(f"{target} int8", f"{target} fp32"))
    _row("onnx: INT8 / bare FP32 session", None, ratio("onnx int8", "bare"))
    _row("localize, ms", 1.2, p50_ms("localize"))
    _row("localize, its network, ms", 1.0, p50_ms("network"))
    _row(f"{size}: whole graph / two graphs", None, ratio("whole", "two"))
    _row("299 pixels: whole graph / two graphs", None, ratio("whole small", "two small"))
    _row("torch eager / ONNX Runtime, regressor", None, ratio("eager", "bare"))
    _row("OpenVINO / ONNX Runtime, regressor", None, ratio("openvino fp32", "onnx fp32"))
    for name in ("decode", "predict", "whole", "bare", "onnx fp32", "onnx int8", "eager"):
        _row(f"{name}, p50 ms", None, p50_ms(name))


def _regressor(bundle: Bundle, feeds: dict[str, np.ndarray]) -> Callable[[], object]:
    """Return a run of a bundle's regressor, opened as ``Runtime`` does."""
    backend = get_target(bundle.manifest.target).load_backend()
    artifact = bundle.artifact("regressor")
    session = backend.open_session(bundle.files_of(artifact), artifact, 1)
    return lambda: session.run(feeds)


def _bare(bundle: Bundle, feeds: dict[str, np.ndarray]) -> Callable[[], object]:
    """Return a run of an ONNX regressor by ONNX Runtime without bakit."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle.root / "regressor.onnx", options)
    return lambda: session.run(None, feeds)


@torch.inference_mode()
def _eager(model: torch.nn.Module, tensors: tuple[torch.Tensor, torch.Tensor]) -> object:
    return model(*tensors)


def _times(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the times in ms of runs in turns, after a round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(-1, rounds):
        for name, run in runs.items():
            turn = []
            for _ in range(TURN):
                started = time.perf_counter()
                run()
                turn.append((time.perf_counter() - started) * 1000)
            if index >= 0:
                times[name].append(statistics.median(turn))
    return times


def _printed(code: str, *arguments: object) -> float:
    """Return the number that a new Python prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _row(what: str, bar: float | None, value: float) -> None:
    held = "" if bar is None else "held" if value <= bar else "missed"
    print(f"| {what} | {'' if bar is None else f'<= {bar:g}'} | {value:.2f} | {held} |", flush=True)


def _growth(bundle: Bundle, rounds: int) -> dict[str, dict[float, float]]:
    """Return the time of a prediction in ms by megapixels and threads, and of many by images."""
    found: dict[str, dict[float, float]] = {}
    drawn = make_phantom(3, height=2000).image
    films = {}
    for height in (400, 1200, 2000, 2800, 3600):
        size = (height * 3 // 4, height)
        films[height * size[0] / 1e6] = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
    middle = list(films.values())[1]
    for threads in (1, 2):
        with Runtime(bundle, threads) as runtime, Runtime(bundle, 1) as single:
            runs = {
                size: lambda film=film: runtime.predict(film, "M", allow_rejected=True)
                for size, film in films.items()
            }
            times = _times(runs, rounds)
            found[f"threads: {threads}, by megapixels"] = {
                k: statistics.median(v) for k, v in times.items()
            }
            runs = {
                n: lambda n=n, threads=threads: list(
                    single.predict_many([middle] * n, "M", threads=threads)
                )
                for n in (1, 4, 8, 16)
            }
            times = _times(runs, rounds)
            found[f"threads: {threads}, by images"] = {
                k: statistics.median(v) for k, v in times.items()
            }
    return found


def _drawn(runs: dict[str, dict[float, float]]) -> Figure:
    figure = new_figure(8.0, 3.5)
    for axes, unit in zip(figure.subplots(1, 2), ("megapixels", "images"), strict=True):
        for name, times in runs.items():
            threads, _, by = name.partition(", by ")
            if by == unit:
                axes.plot(list(times), list(times.values()), marker="o", label=threads)
        axes.set(xlabel=unit, ylabel="ms", ylim=(0, None), xlim=(0, None))
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
