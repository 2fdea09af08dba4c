"""How far the phones' targets are from the float model, on the same crops of the same films.

    python tests/benchmarks/target_drift.py official_test rsna299 --out drift

Each model of LiteRT, Core AI and Core ML gets the crops of ONNX Runtime FP32, the reference. Of the
folder that the checkpoint was trained on, its test part is used. Where ``ai-edge-quantizer`` is
installed, LiteRT's own quantizer gets the training images of ``bakit calibrate`` from
``--calibration``.

The films are in random order, and each age is written as it comes. The same command continues a
run that was killed; with ``--table``, it prints the films so far and runs nothing.
"""

from __future__ import annotations

import argparse
import random
import sys
from contextlib import redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.backends.litert import LiteRtSession
from bakit.bench.drift.compare import compare
from bakit.bundle import Bundle
from bakit.calib.dataset import CalibrationSet
from bakit.calib.select import choose_samples
from bakit.data.labels import read_samples
from bakit.data.splits import take_part
from bakit.errors import BakitError, MissingBackendError
from bakit.export import export_bundle
from bakit.export.onnx.localizer import open_localizer
from bakit.hand.prepare import prepare
from bakit.hand.weights import get_localizer
from bakit.image.read import decode
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.settings import StudentSettings
from bakit.targets import get_target
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bakit.data.labels import Sample
    from bakit.session import Session, Tensors

REFERENCE = ("onnx", Precision.FP32)
TARGETS = ("litert", "coreai", "coreml-reference")
RECIPES = ("static_wi8_ai8", "dynamic_wi8_afp32")
"""LiteRT's own: ranges of calibration images, and ranges of each run."""
IMAGES = 256
"""Calibration images, as many as of the shipped ranges."""

HEAD = (
    "| model | films | MAE | change of the MAE [95 %] | mean / p99 / largest change |",
    "| --- | --- | --- | --- | --- |",
)
LEAST = 20
"""Films that a row needs."""


class Model(NamedTuple):
    """A regressor: what opens it, when it is its turn."""

    name: str
    open: Callable[[], Session]
    bundle: Bundle


def main() -> None:
    """Run the models, and print a table for each folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="+", help="labelled folders")
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--calibration", type=Path, help="the folder of the training")
    parser.add_argument("--targets", default=",".join(TARGETS), help="separated by commas")
    parser.add_argument("--limit", type=int, help="films of each folder")
    parser.add_argument("--table", action="store_true", help="of the ages in --out alone")
    parser.add_argument("--out", type=Path, required=True, help="folder of bundles and ages")
    given = parser.parse_args()
    try:
        checkpoint = with_student(Checkpoint.read(given.checkpoint))
        out = given.out / checkpoint.sha256[:12]
        out.mkdir(parents=True, exist_ok=True)
        pairs = [REFERENCE, *((t, p) for t in given.targets.split(",") for p in Precision)]
        models = [*exported(checkpoint, pairs, out)]
        for model in [*models]:
            if given.calibration and model.name == "litert-fp32":
                models += own_quantizer(checkpoint, model.bundle, given.calibration, out)
        for data in given.data:
            judge(checkpoint, models, data, given, out)
    except BakitError as error:
        parser.error(str(error))


def with_student(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with a localizer that every target runs."""
    if isinstance(checkpoint.header.localizer, StudentSettings):
        return checkpoint
    return checkpoint.with_localizer(get_localizer("student"))


def exported(
    checkpoint: Checkpoint, pairs: Sequence[tuple[str, Precision]], out: Path
) -> Iterator[Model]:
    """Yield the bundles of targets that are installed here."""
    for name, precision in pairs:
        target = get_target(name)
        if precision not in target.precisions:
            continue
        folder = out / f"{name}-{precision.value}"
        try:
            backend = target.load_backend()
            if not folder.exists():
                export_bundle(checkpoint, name, precision, folder)
        except MissingBackendError as error:
            print(f"{name} {precision.value}: skipped: {error}")
            continue
        bundle = Bundle.read(folder)
        artifact = bundle.artifact("regressor")
        opening = partial(backend.open_session, bundle.files_of(artifact), artifact, 1)
        yield Model(folder.name, opening, bundle)


def own_quantizer(checkpoint: Checkpoint, source: Bundle, data: Path, out: Path) -> Iterator[Model]:
    """Yield what LiteRT's own quantizer makes of the float ``.tflite``, by its recipes."""
    try:
        from ai_edge_quantizer import quantizer, recipe
    except ModuleNotFoundError:
        print("LiteRT's own quantizer: skipped: pip install ai-edge-quantizer")
        return

    def opened(name: str) -> LiteRtSession:
        path = out / f"{name}.tflite"
        if not path.exists():
            float_model = str(source.root / source.artifact("regressor").path)
            tool = quantizer.Quantizer(float_model, getattr(recipe, name)())
            ranges = None
            if tool.need_calibration:
                splits = [checkpoint.header.training.split]
                train = take_part(read_samples(data), splits, "train")
                feeds = list(crops(checkpoint, choose_samples(train, IMAGES, seed=0)))
                ranges = tool.calibrate({"serving_default": feeds})
            with redirect_stdout(sys.stderr):  # the tool talks; stdout is the table's
                tool.quantize(ranges).export_model(str(path))
        return WithIntegers(path.read_bytes())

    for name in RECIPES:
        yield Model(f"litert by {name}", partial(opened, name), source)


class WithIntegers(LiteRtSession):
    """A ``.tflite`` whose inputs and output may be INT8, as LiteRT's own quantizer makes them."""

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference on float inputs, and return float outputs."""
        feeds = dict(feeds)
        for item in self._interpreter.get_input_details():
            scale, zero = item["quantization"]
            if scale:
                whole = np.rint(feeds[item["name"]] / scale) + zero
                feeds[item["name"]] = whole.clip(-128, 127).astype(item["dtype"])
        (item,) = self._interpreter.get_output_details()
        scale, zero = item["quantization"]
        age = super().run(feeds)[item["name"]]
        return {item["name"]: (age.astype(np.float32) - zero) * scale if scale else age}


def crops(checkpoint: Checkpoint, samples: Sequence[Sample]) -> CalibrationSet:
    """Return the regressor's inputs."""
    header = checkpoint.header
    localizer = open_localizer(checkpoint.localizer, header.localizer, 1)
    return CalibrationSet.load(
        samples, lambda s: prepare(decode(s.path), localizer, header.preprocessing).pixels
    )


def judge(
    checkpoint: Checkpoint,
    models: Sequence[Model],
    data: Path,
    given: argparse.Namespace,
    out: Path,
) -> None:
    """Run the models on a folder's films, and print a row for each."""
    samples = read_samples(data)
    record = checkpoint.header.training
    samples = [*((record and take_part(samples, [record.split], "test")) or samples)]
    random.Random(0).shuffle(samples)
    samples = samples[: given.limit]
    folder = out / data.name
    folder.mkdir(exist_ok=True)
    prepared = None if given.table else crops(checkpoint, samples)
    print(f"\n{data.name}, {len(samples)} films\n", *HEAD, sep="\n")
    float_ages = folder / f"{models[0].name}.txt"
    for model in models:
        own_ages = folder / f"{model.name}.txt"
        if prepared is not None:
            ages(model, prepared, own_ages)
        print(row(model, samples, written(float_ages), written(own_ages)), flush=True)


def ages(model: Model, prepared: CalibrationSet, file: Path) -> None:
    """Append the ages that are missing in a file, one a line."""
    done = len(written(file))
    if done >= len(prepared):
        return
    with model.open() as session, file.open("a") as ages_file:
        for index, feeds in enumerate(prepared):
            if index >= done:
                age = session.run(feeds)["age_months"].item()
                print(repr(float(age)), file=ages_file, flush=True)


def written(file: Path) -> list[float]:
    """Return the ages in a file."""
    with suppress(FileNotFoundError):
        return [float(line) for line in file.read_text().split("\n")[:-1]]
    return []


def row(
    model: Model, samples: Sequence[Sample], float_ages: list[float], own_ages: list[float]
) -> str:
    """Return a model's line of the table, in Markdown."""
    n = min(len(float_ages), len(own_ages), len(samples))
    if n < LEAST:
        return f"| {model.name} | {n} | | | |"
    pair = (np.array(float_ages[:n]), np.array(own_ages[:n]))
    drift = compare(samples[:n], *pair, model.bundle, is_reference=False, box_iou_mean=1)
    low, high = drift.drift_ci95_months
    sizes = (drift.mean_abs_change_months, drift.p99_abs_change_months)
    largest = np.abs(pair[1] - pair[0]).max()
    cells = [model.name, str(n), f"{drift.bundle_mae_months:.3f}"]
    cells += [f"{drift.drift_months:+.3f} [{low:+.3f}, {high:+.3f}]"]
    cells += [" / ".join(f"{size:.4f}" for size in (*sizes, largest))]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
