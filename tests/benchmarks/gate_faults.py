"""Does the gate see what can go wrong? Five faults, each put into the INT8 model, each gated.

    python tests/benchmarks/gate_faults.py DATA

The faults are those that no library complains about: a layer's scale off by two, ranges of another
checkpoint, the sex input the wrong way round, an image that was not normalised, and one group of
sex and age off by three months. The sound INT8 model is gated beside them: it has to pass. All see
the same crops of the test part, and the gate has its defaults.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from bakit.backends.ort import OrtSession
from bakit.bench.drift.compare import compare, group_images
from bakit.bench.gate.check import Gate
from bakit.bench.host import read_host
from bakit.bench.report.document import SCHEMA_VERSION, BundleReport, DataInfo, Report, Settings
from bakit.calib.dataset import load_images
from bakit.calib.ranges import ranges_on
from bakit.data.labels import read_samples
from bakit.data.splits import ids_digest, take_part, thin
from bakit.errors import BakitError, InputError
from bakit.export.onnx.int8 import quantize
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import serialize
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.settings import GREY_MEAN, GREY_SD
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from bakit.calib.dataset import CalibrationSet
    from bakit.data.labels import Sample
    from bakit.settings import Ranges
    from bakit.types import Floats, Grey


SCALE = "a layer's scale off by 2x"
RANGES = "ranges of another checkpoint"
SEX = "sex input swapped"
NORMALISATION = "image normalisation missing"
GROUP = "one sex x age group off by 3 months"
SOUND = "none"
FAULTS = (SCALE, RANGES, SEX, NORMALISATION, GROUP)

CALIBRATION = 32
"""Images that the ranges of the other checkpoint are gathered on."""


def main() -> None:
    """Put every fault in, gate it, and print what the gate says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the labelled folder of the training")
    parser.add_argument("--limit", type=int, help="test images at most, spread evenly")
    given = parser.parse_args()
    checkpoint = Checkpoint.read(SHIPPED)
    try:
        samples = read_samples(given.data)
        record = checkpoint.header.training
        parts = [
            take_part(samples, [record.split] if record else [], part) for part in ("train", "test")
        ]
        if parts[0] is None or parts[1] is None:
            message = f"{given.data}: not the folder that {checkpoint.name} was trained on"
            raise InputError(message)
        train, test = thin(parts[0], CALIBRATION), thin(parts[1], given.limit)
        calibration, images = (load_images(checkpoint, part) for part in (train, test))
    except BakitError as error:
        parser.error(str(error))
    assert checkpoint.header.ranges is not None
    males = np.array([sample.male for sample in test])
    float_model = OrtSession(serialize(regressor_model(checkpoint)), 1)
    ages = {"float": predict(float_model, images.pixels, males)}
    ages |= int8_ages(checkpoint, checkpoint.header.ranges, calibration, images)
    for fault, report in reports(test, ages).items():
        result = Gate().check(report)
        print(f"{fault}: {result.outcome}")
        for failure in result.bundles[0].failures:
            print(f"    {failure}")


def int8_ages(
    checkpoint: Checkpoint, ranges: Ranges, calibration: CalibrationSet, images: CalibrationSet
) -> dict[str, Floats]:
    """Return the ages ``(N,)`` of the sound INT8 model and of each faulty one.

    Args:
        checkpoint: The float model.
        ranges: Its INT8 ranges.
        calibration: What the other checkpoint's ranges are gathered on.
        images: What the ages are of.
    """
    model = regressor_model(checkpoint)
    sound = quantize(model, ranges)
    other = quantize(model, ranges_on(other_checkpoint(checkpoint), calibration))
    males = np.array([sample.male for sample in images.samples])
    run = OrtSession(serialize(sound), 1)
    ages = {
        SOUND: predict(run, images.pixels, males),
        SCALE: predict(OrtSession(serialize(doubled_scale(sound)), 1), images.pixels, males),
        RANGES: predict(OrtSession(serialize(other), 1), images.pixels, males),
        SEX: predict(run, images.pixels, ~males),
    }
    # What the graph subtracts and divides by is undone before: it sees bare greys.
    bare = [(pixels * GREY_SD + GREY_MEAN).astype(np.float32) for pixels in images.pixels]
    ages[NORMALISATION] = predict(run, bare, males)
    true = np.array([sample.age_months for sample in images.samples])
    girls = [group for group in group_images(true, males) if group.sex == "F"]
    ages[GROUP] = ages[SOUND].copy()
    ages[GROUP][max(girls, key=lambda group: len(group.rows)).rows] += 3
    return ages


def predict(session: OrtSession, pixels: Sequence[Grey], males: npt.NDArray[np.bool_]) -> Floats:
    """Return an age for each image."""
    return np.array(
        [
            session.run({"image": image[None, None], "sex": np.array([[male]], np.float32)})[
                "age_months"
            ].item()
            for image, male in zip(pixels, males, strict=True)
        ]
    )


def doubled_scale(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a quantized model whose middle layer reads its weights at twice their size."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    held = {tensor.name: tensor for tensor in copy.graph.initializer}
    layers = [
        node
        for node in copy.graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in held
        and len(held[node.input[0]].dims) == 4
    ]
    tensor = held[layers[len(layers) // 2].input[1]]
    tensor.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(tensor), tensor.name))
    return copy


def other_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """Return a relative of a checkpoint: its layers are up to twice as large, or half."""
    generator = np.random.default_rng(0)
    weights = {
        name: (value * 2 ** generator.uniform(-1, 1)).astype(value.dtype)
        for name, value in checkpoint.regressor.items()
    }
    return Checkpoint(checkpoint.header, weights, checkpoint.localizer)


def reports(samples: Sequence[Sample], ages: dict[str, Floats]) -> dict[str, Report]:
    """Return a report for the sound model and for each fault, as a benchmark would write it."""
    stand_in = FloatBundle()
    found = {}
    for fault in (SOUND, *FAULTS):
        drift = compare(
            samples,
            ages["float"],
            ages[fault],
            stand_in,  # type: ignore[arg-type]  # of which the name and the target are read
            is_reference=False,
            box_iou_mean=1.0,
        )
        bundle = BundleReport(
            name="onnx-int8",
            target="onnx",
            precision=Precision.INT8,
            provider="CPUExecutionProvider",
            bundle_sha256=fault,
            checkpoint="checkpoint",
            checkpoint_sha256="checkpoint",
            size_mb={},
            total_size_mb=0.0,
            latency=None,
            footprint=None,
            drift=drift,
        )
        data = DataInfo("images", len(samples), "test", len(samples), ids_digest(samples))
        settings = Settings(1, 0.0, 0, 1, 1, 2000, 0)
        found[fault] = Report(SCHEMA_VERSION, read_host(), settings, data, (bundle,))
    return found


class FloatBundle(msgspec.Struct):
    """What ``compare`` reads of a reference."""

    name: str = "onnx-fp32"

    @property
    def manifest(self) -> FloatBundle:
        """Return what has the target."""
        return self

    @property
    def target(self) -> str:
        """Return the target."""
        return "onnx"


if __name__ == "__main__":
    main()
