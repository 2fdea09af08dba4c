"""Compare the whole graph with the two-graph way, film by film: crops, boxes, ages, time.

    python tests/benchmarks/whole_graph.py ../shared/data/originals/images ... [--int8]
        [--target openvino] [--limit 40] [--threads 1]

Each folder is a row of the table; so are drawn films of odd shapes. A crop is exact if at most one
pixel in 1,000 differs, by one grey level. ``other way`` counts films whose age the runtime takes
from the two graphs: turned hands, second searches, framed films without a hand.
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
    from collections.abc import Iterator

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
    """Yield the grey values of a folder's images, spread evenly."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".jpg"})
    step = max(len(paths) // limit, 1) if limit else 1
    for path in paths[::step][:limit]:
        pixels = read_radiograph(path).pixels
        if pixels.dtype == np.uint8:
            yield pixels


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path)
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
        print(
            "| films | n | other way | exact crops | worst pixels | boxes off | worst months |",
            end="",
        )
        print(" p50 ms whole / two |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        with Runtime(bundle, given.threads, whole=True) as runtime:
            runtime.warm_up()
            for path in given.folders:
                _row(runtime, path.parent.name, films(path, given.limit))
            _row(runtime, "odd shapes", odd_films())


def _row(runtime: Runtime, name: str, grey: Iterator[np.ndarray]) -> None:
    others = exact = off = count = 0
    pixels_off, months, whole_ms, two_ms = [0.0], [0.0], [], []
    for film in grey:
        count += 1
        started = time.perf_counter()
        hand = runtime.prepare(film)
        age = runtime.regress(hand.pixels, male=True)
        two_ms.append((time.perf_counter() - started) * 1000)
        _, found, answer = runtime._find(film, male=True)
        if answer is None:
            others += 1
            continue
        whole_ms.append(answer.ms)
        levels = np.rint(np.abs(answer.pixels - hand.pixels) * 255)
        pixels_off.append(float((levels > 0).mean()))
        good = levels.max() <= 1 and pixels_off[-1] <= 1e-3
        exact += good
        off += found.box != hand.box
        months.append(abs(answer.age_months - age))
        if not good or months[-1] > 0.01:
            print(
                f"  {film.shape} box {found.box} {hand.box} levels {levels.max():.0f} "
                f"share {pixels_off[-1]:.5f} months {months[-1]:.4f}"
            )
    times = [f"{statistics.median(ms):.1f}" if ms else "-" for ms in (whole_ms, two_ms)]
    print(
        f"| {name} | {count} | {others} | {exact} | {max(pixels_off):.5f} | {off} | "
        f"{max(months):.4f} | {' / '.join(times)} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
