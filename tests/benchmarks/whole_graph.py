"""Compare the whole graph with the two-graph way, film by film: crops, boxes, ages, time.

    python tests/benchmarks/whole_graph.py DATA [--int8] [--target openvino]
        [--limit 40] [--threads 2] [--sets originals unlabelled]

Each set of DATA is a row of the table, and so are drawn films of odd shapes. A crop is exact if at
most one pixel in 1,000 differs, by one grey level. ``other way`` counts films whose age the runtime
takes from the two graphs: turned hands, second searches, framed films without a hand. ``time`` is
the median over films of the graph's time divided by that of the two graphs with the steps between
them: CPU time with one thread, which a busy machine changes little, else the clock's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from bakit.export import export_bundle
from bakit.image.read import read_radiograph
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPES = (
    *((1, 500), (500, 1), (2, 3), (16, 16), (16, 900), (900, 16), (64, 64), (65, 257), (128, 128)),
    *(
        (224, 224),
        (225, 230),
        (256, 65),
        (447, 449),
        (448, 448),
        (495, 498),
        (500, 300),
        (896, 225),
    ),
    *((895, 700), (900, 500), (1344, 896), (1500, 1200), (2240, 2240), (3000, 2400)),
)


def odd_films() -> Iterator[np.ndarray]:
    """Yield phantoms of odd shapes, inverted ones, one grey, and noise."""
    phantom = make_phantom(3, height=640).image
    for height, width in SHAPES:
        film = cv2.resize(phantom, (width, height), interpolation=cv2.INTER_AREA)
        yield film
        yield 255 - film
    rng = np.random.default_rng(0)
    for grey in (0, 7, 255):
        yield np.full((300, 400), grey, np.uint8)
    for shape in ((40, 50), (700, 600)):
        yield rng.integers(0, 256, shape, dtype=np.uint8)


def films(folder: Path, limit: int | None) -> Iterator[np.ndarray]:
    """Yield the grey values of a set's 8-bit images, spread evenly."""
    images = folder / "images"
    folder = images if images.is_dir() else folder
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".jpg"})
    step = max(len(paths) // limit, 1) if limit else 1
    for path in paths[::step][:limit]:
        pixels = read_radiograph(path).pixels
        if pixels.dtype == np.uint8:
            yield pixels


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the sets")
    parser.add_argument(
        "--sets", nargs="*", default=["originals", "masked", "official_test", "unlabelled"]
    )
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--target", default="onnx")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    given = parser.parse_args()
    cv2.setNumThreads(given.threads)
    precision = Precision.INT8 if given.int8 else Precision.FP32
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint.read(given.checkpoint)
        bundle = export_bundle(
            checkpoint, given.target, precision, Path(folder) / "bundle", whole=True
        )
        columns = "films", "n", "other way", "exact crops", "worst pixels", "boxes off"
        print("|", " | ".join((*columns, "worst months", "time")), "|")
        print("| ---" * 8 + " |")
        with Runtime(bundle, given.threads, whole=True) as runtime:
            runtime.warm_up()
            clock = time.process_time if given.threads == 1 else time.perf_counter
            for name in given.sets:
                _row(runtime, name, films(given.data / name, given.limit), clock)
            _row(runtime, "odd shapes", odd_films(), clock)


def _row(
    runtime: Runtime, name: str, grey: Iterator[np.ndarray], clock: Callable[[], float]
) -> None:
    others = exact = off = count = 0
    pixels_off, months, ratios = [0.0], [0.0], []
    for film in grey:
        count += 1
        started = clock()
        hand = runtime.prepare(film)
        age = runtime.regress(hand.pixels, male=True)
        took = clock() - started
        _, found, answer = runtime._find(film, male=True)
        if answer is None:
            others += 1
            continue
        started = clock()
        runtime._whole.run({"film": film, "sex": np.ones((1, 1), np.float32)})
        ratios.append((clock() - started) / took)
        levels = np.rint(np.abs(answer.pixels - hand.pixels) * 255)
        pixels_off.append(float((levels > 0).mean()))
        good = levels.max() <= 1 and pixels_off[-1] <= 1e-3
        exact += good
        off += found.box != hand.found.box
        months.append(abs(answer.age_months - age))
        if not good or months[-1] > 0.01:
            print(
                f"  {film.shape} box {found.box} {hand.found.box} levels {levels.max():.0f} "
                f"share {pixels_off[-1]:.5f} months {months[-1]:.4f}"
            )
    cells = name, count, others, exact, f"{max(pixels_off):.5f}", off, f"{max(months):.4f}"
    print("|", " | ".join(map(str, (*cells, f"{statistics.median(ratios):.2f}"))), "|", flush=True)


if __name__ == "__main__":
    main()
