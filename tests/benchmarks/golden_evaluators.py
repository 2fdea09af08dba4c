"""Correct and broken evaluators of the shipped model, judged by its golden predictions.

    python -m tests.benchmarks.golden_evaluators --other CHECKPOINT
    python -m tests.benchmarks.golden_evaluators --other CHECKPOINT --films FOLDER

Each row is one evaluator: the mean and the largest change of the 16 golden ages since export, and
the verdict. The bundle's other graphs are evaluated literally. ``--films`` adds the mean change on
200 films of a labelled folder, and their MAE. ``CHECKPOINT`` is another model, for the last broken
graph.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx

from bakit.data.labels import read_samples
from bakit.export import export_bundle
from bakit.export.onnx.localizer import shipped_localizer
from bakit.hand.prepare import prepare
from bakit.image.read import decode
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.types import Precision
from bakit.verify import allowed_months, golden_failure
from tests.evaluators import broken, correct, golden_feeds, literally

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.session import Tensors
    from bakit.types import Floats

FILMS = 200
GRAPHS = {
    Precision.FP32: "regressor.onnx",
    Precision.FP16: "regressor.onnx",
    Precision.INT8: "regressor-qdq.onnx",
}


class Films(NamedTuple):
    """Inputs of films, and their labels in months."""

    feeds: list[Tensors]
    months: Floats


def main() -> None:
    """Print a table for each precision."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--other", type=Path, required=True, help="another checkpoint")
    parser.add_argument("--films", type=Path, help="labelled folder")
    given = parser.parse_args()
    checkpoint, other = Checkpoint.read(SHIPPED), Checkpoint.read(given.other)
    films = None if given.films is None else read_films(given.films, checkpoint)
    for precision, graph in GRAPHS.items():
        with tempfile.TemporaryDirectory() as folder:
            bundle = export_bundle(checkpoint, "tensorrt", precision, Path(folder) / "bundle")
            table(bundle, graph, other, films)


def read_films(folder: Path, checkpoint: Checkpoint) -> Films:
    """Return ``FILMS`` films, spread evenly over the table."""
    samples = read_samples(folder)
    chosen = [samples[i * len(samples) // FILMS] for i in range(FILMS)]
    localizer = shipped_localizer("student")
    feeds = []
    for sample in chosen:
        hand = prepare(decode(sample.path), localizer, checkpoint.header.preprocessing)
        sex = np.array([[sample.male]], np.float32)
        feeds.append({"image": hand.pixels[None, None], "sex": sex})
    return Films(feeds, np.array([sample.age_months for sample in chosen]))


def evaluators(bundle, graph, other, feeds) -> dict[str, Callable[[], list[float]]]:
    """Return what evaluates a bundle's graphs and broken ones, by the name of its row."""
    model = onnx.load(bundle.root / graph)
    is_int8 = bundle.manifest.precision is Precision.INT8
    runs = correct(model, feeds)
    for name in dict.fromkeys(build.path for build in bundle.artifact("regressor").builds):
        if name != graph:
            half = onnx.load(bundle.root / name)
            runs[name] = lambda half=half: literally(half, feeds)  # type: ignore[misc]
    wrong = broken(model, feeds, other, is_int8=is_int8)
    return runs | {f"broken: {name}": run for name, run in wrong.items()}


def table(bundle, graph, other, films) -> None:  # as in main
    """Print the evaluators of one bundle."""
    runs = evaluators(bundle, graph, other, golden_feeds(bundle))
    exported = np.array([item.bundle_months for item in bundle.manifest.golden])
    limit = allowed_months(bundle.manifest)
    print(f"\n{bundle.manifest.precision.value}: at most {limit:.3f} months on average\n")
    print("| evaluator | mean | largest | verdict | films: mean | MAE |")
    print("| --- | --- | --- | --- | --- | --- |")
    on_films = {} if films is None else evaluators(bundle, graph, other, films.feeds)
    before = None
    for name, run in runs.items():
        ages = run()
        changes = np.abs(np.array(ages) - exported)
        cells = [name, f"{changes.mean():.3f}", f"{changes.max():.2f}"]
        cells += ["refused" if golden_failure(ages, bundle.manifest) else "accepted"]
        if films is not None:
            found = np.array(on_films[name]())
            before = found if before is None else before
            cells += [f"{np.abs(found - before).mean():.3f}"]
            cells += [f"{np.abs(found - films.months).mean():.2f}"]
        else:
            cells += ["", ""]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
