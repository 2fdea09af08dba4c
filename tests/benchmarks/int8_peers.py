"""What other tools' INT8 makes of the float model when they are called with their defaults.

    python tests/benchmarks/int8_peers.py DATA
    python tests/benchmarks/int8_peers.py DATA --bundle bakit-bundles/bakit-rsna299-onnx-int8

The tools are ``onnxruntime.quantization.quantize_static`` and ``nncf.quantize``. They get the same
calibration images, chosen as ``bakit calibrate`` does, and every model sees the same crops of the
test part: only the regressor differs, and all sizes and times are the regressor's. The time to
compare is ``x float``: the median over rounds of the ratio, within a round, to the float model in
the same library. All ONNX models are opened by bakit's backend, which on a CPU without VNNI keeps
8-bit weights from saturating; OpenVINO has no such option.

By default nncf takes the mean of the images' highest values for the highest value. Of the sex,
0 or 1, that is the share of boys, and boys are read as a half: one more recipe leaves that out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from bakit.backends.ort import OrtSession
from bakit.bench.drift.compare import compare
from bakit.bench.host import read_host
from bakit.bench.task import BLOCK
from bakit.bundle import Bundle
from bakit.calib.dataset import CalibrationSet
from bakit.calib.select import choose_samples
from bakit.data.labels import read_samples
from bakit.data.splits import take_part, thin
from bakit.errors import BakitError, InputError
from bakit.export import export_bundle
from bakit.export.onnx.localizer import open_localizer
from bakit.hand.prepare import prepare
from bakit.image.read import decode
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.targets import get_target
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from bakit.data.labels import Sample
    from bakit.session import Session, Tensors
    from bakit.types import Grey

sys.modules["openvino_telemetry"] = None  # by which nncf would report each call to its makers

STATIC = {
    "defaults": {},
    "per_channel": {"per_channel": True},
    "per_channel, reduce_range": {"per_channel": True, "reduce_range": True},
}
LIBRARIES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
VNNI = {"avx512_vnni", "avx_vnni", "amx_int8"}  # each adds products of 8-bit integers exactly
TOOLS = ("onnxruntime", "openvino", "nncf")
UNUSED = {"rows", "box_iou_mean"}  # an age an image; every model sees the same crops
HEAD = (
    "| recipe | library | MAE, months | dMAE [95 %] | mean change | p99 | MB | p50, ms | x float |"
)


class Model(NamedTuple):
    """A regressor that is open on this machine."""

    recipe: str
    library: str
    session: Session
    files: list[Path]
    is_float: bool = False


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="the labelled folder of the training")
    parser.add_argument("--checkpoint", type=Path, default=SHIPPED)
    parser.add_argument("--bundle", type=Path, action="append", default=[], help="any number")
    parser.add_argument("--limit", type=int, help="test images at most, spread evenly")
    parser.add_argument("--samples", type=int, default=300, help="calibration images")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of calibration images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40, help=f"of {BLOCK} queries a model")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    given = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="bakit-") as folder:
            report = measure(given, Path(folder))
    except BakitError as error:
        parser.error(str(error))
    print(table(report["models"]), notes(report), sep="\n\n")
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Quantize with every recipe, take all models' times, and run them on the test part."""
    checkpoint = Checkpoint.read(given.checkpoint)
    record = checkpoint.header.training
    samples, splits = read_samples(given.data), [record.split] if record else []
    train, test = (take_part(samples, splits, part) for part in ("train", "test"))
    if train is None or test is None:
        message = f"{given.data}: not the folder that {checkpoint.name} was trained on"
        raise InputError(message)
    bundles = [Bundle.read(path) for path in given.bundle]
    for bundle in bundles:
        if bundle.manifest.checkpoint_sha256 != checkpoint.sha256:
            message = f"{bundle.root}: exported from another checkpoint than {given.checkpoint}"
            raise InputError(message)
    calibration = calibration_set(checkpoint, choose_samples(train, given.samples, given.seed))
    judged = calibration_set(checkpoint, thin(test, given.limit))
    reference = export_bundle(checkpoint, "onnx", Precision.FP32, folder / "onnx-fp32")
    names = [spec.name for spec in reference.artifact("regressor").inputs]
    feeds = [{name: feed[name] for name in names} for feed in calibration]
    models = [opened(reference, given.threads, "float")]
    source = models[0].files[0]
    with contextlib.redirect_stdout(sys.stderr):  # the tools talk; stdout is the table's
        models += with_ort(source, feeds, folder, given.threads)
        more, missing = with_openvino(checkpoint, source, feeds, folder, given.threads)
    models += more
    models += [opened(item, given.threads, f"bakit: {item.name}") for item in bundles]
    feeds = [{name: feed[name] for name in names} for feed in judged]
    speeds = race(models, feeds[:BLOCK], given.rounds)
    rows, float_months = [], ages(models[0], feeds)
    for model, speed in zip(models, speeds, strict=True):
        paired = (judged.samples, float_months, ages(model, feeds))
        drift = compare(*paired, reference, is_reference=model is models[0], box_iou_mean=1)
        numbers = {k: v for k, v in msgspec.structs.asdict(drift).items() if k not in UNUSED}
        row = {"recipe": model.recipe, "library": model.library, "ran": model.session.provider}
        row |= {"size_mb": sum(path.stat().st_size for path in model.files) / 1e6}
        rows.append(row | speed | numbers)
    host = msgspec.to_builtins(read_host())
    host["versions"]["nncf"] = "" if missing else importlib.metadata.version("nncf")
    settings = {
        "checkpoint_sha256": checkpoint.sha256,
        "calibration_sha256": calibration.digest,
        "calibration images": len(calibration),
        "test images": len(judged),
        "seed": given.seed,
        "threads": given.threads,
        "timed queries of each model": given.rounds * BLOCK,
    }
    return {"host": host, "settings": settings, "models": rows, "missing": missing}


def calibration_set(checkpoint: Checkpoint, samples: Sequence[Sample]) -> CalibrationSet:
    """Return what the regressor sees of some images, as ``bakit calibrate`` makes it."""
    header = checkpoint.header
    localizer = open_localizer(checkpoint.localizer, header.localizer, 1)

    def load(sample: Sample) -> Grey:
        return prepare(decode(sample.path), localizer, header.preprocessing).pixels

    return CalibrationSet.load(samples, load)


def opened(bundle: Bundle, threads: int, recipe: str) -> Model:
    """Open the regressor of a bundle by its backend."""
    artifact, manifest = bundle.artifact("regressor"), bundle.manifest
    files = [bundle.root / name for name in artifact.files]  # the one to open comes first
    session = (
        get_target(manifest.target)
        .load_backend()
        .open_session(bundle.files_of(artifact), artifact, threads)
    )
    library = LIBRARIES.get(manifest.target, manifest.target)
    return Model(recipe, library, session, files, manifest.precision is Precision.FP32)


class Reader(CalibrationDataReader):
    """Hands feeds to ONNX Runtime."""

    def __init__(self, feeds: Sequence[Tensors]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Tensors | None:
        """Return the next, None at the end."""
        return next(self._feeds, None)


def with_ort(source: Path, feeds: Sequence[Tensors], folder: Path, threads: int) -> list[Model]:
    """Quantize the float ONNX model by ONNX Runtime's tool."""
    models = []
    for index, (name, options) in enumerate(STATIC.items()):
        path = folder / f"static{index}.onnx"
        quantize_static(source, path, Reader(feeds), **options)
        session = OrtSession(path.read_bytes(), threads)
        models.append(Model(f"quantize_static, {name}", LIBRARIES["onnx"], session, [path]))
    return models


def with_openvino(
    checkpoint: Checkpoint, source: Path, feeds: Sequence[Tensors], folder: Path, threads: int
) -> tuple[list[Model], str]:
    """Return OpenVINO's float model, what nncf makes of it, and what is missing if it is."""
    try:
        from bakit.backends.openvino import OpenVinoSession, openvino
    except ModuleNotFoundError:
        return [], "Without OpenVINO and nncf: pip install 'bakit-edge[openvino]' nncf"
    bundle = export_bundle(checkpoint, "openvino", Precision.FP32, folder / "openvino-fp32")
    models = [opened(bundle, threads, "float")]
    try:
        import nncf
    except ModuleNotFoundError:
        return models, "Without nncf.quantize: pip install nncf"
    mixed = {"preset": nncf.QuantizationPreset.MIXED, "fast_bias_correction": False}
    spared = {"ignored_scope": nncf.IgnoredScope(patterns=["head/sex.*"], validate=False)}
    recipes = {"defaults": {}, "MIXED, full bias correction": mixed, "sex branch float": spared}
    for index, (name, options) in enumerate(recipes.items()):
        # Not the bundle's: nncf finds no bias to correct before constants are folded.
        network = openvino.convert_model(source)
        # Its default is 300 images: another number is said only where --samples asks for it.
        network = nncf.quantize(network, nncf.Dataset(feeds), subset_size=len(feeds), **options)
        path = folder / f"nncf{index}.xml"
        openvino.save_model(network, path)  # its default: what is still float becomes float16
        files = [path, path.with_suffix(".bin")]
        session = OpenVinoSession(*(file.read_bytes() for file in files), threads)
        models.append(Model(f"nncf.quantize, {name}", LIBRARIES["openvino"], session, files))
    return models, ""


def race(models: Sequence[Model], feeds: Sequence[Tensors], rounds: int) -> list[dict[str, Any]]:
    """Take the times of all models in turns: the median, and relative to the library's float.

    A turn's first query is not counted: it finds caches full of another model's weights.
    """
    taken_ms = np.empty((len(models), rounds, BLOCK))
    for turn in range(-1, rounds):  # round -1 warms up; the last one writes over it
        for row, model in enumerate(models):
            model.session.run(feeds[0])
            for column, feed in enumerate(islice(cycle(feeds), BLOCK)):
                started = time.perf_counter()
                model.session.run(feed)
                taken_ms[row, turn, column] = (time.perf_counter() - started) * 1000
    medians = np.median(taken_ms, axis=2)
    speeds: list[dict[str, Any]] = []
    for model, own, times in zip(models, medians, taken_ms, strict=True):
        base = [i for i, m in enumerate(models) if m.is_float and m.library == model.library]
        ratio = float(np.median(own / medians[base[0]])) if base else None
        speeds.append({"p50_ms": float(np.median(times)), "times_float": ratio})
    return speeds


def ages(model: Model, feeds: Sequence[Tensors]) -> npt.NDArray[np.float64]:
    """Return the ages in months, ``(N,)`` float64."""
    return np.array([float(model.session.run(feed)["age_months"].item()) for feed in feeds])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the numbers as a Markdown table."""
    lines = [HEAD, f"|{' --- |' * (HEAD.count('|') - 1)}"]
    for row in rows:
        changes = ["reference", "", ""]
        if not row["is_reference"]:
            low, high = row["drift_ci95_months"]
            changes = [f"{row['drift_months']:+.3f} [{low:+.3f}, {high:+.3f}]"]
            changes += [f"{row[f'{name}_abs_change_months']:.2f}" for name in ("mean", "p99")]
        ratio = "" if row["times_float"] is None else f"{row['times_float']:.2f}"
        speed = [f"{row['size_mb']:.1f}", f"{row['p50_ms']:.2f}", ratio]
        mae = f"{row['bundle_mae_months']:.2f}"
        lines += [f"| {' | '.join([row['recipe'], row['library'], mae, *changes, *speed])} |"]
    return "\n".join(lines)


def notes(report: dict[str, Any]) -> str:
    """Say what the numbers were taken on."""
    host, settings = report["host"], report["settings"]
    shown = [f"{name} {settings[name]}" for name in settings if "sha256" not in name]
    versions = [f"{k} {host['versions'][k]}" for k in TOOLS if host["versions"].get(k)]
    lines = [f"{', '.join(shown)}; {', '.join(versions)}"]
    lines += [f"{host['cpu']}, INT8 features: {', '.join(host['isa']) or 'none known'}"]
    if host["machine"] in {"x86_64", "AMD64"} and not VNNI & set(host["isa"]):
        lines += ["Without VNNI, sums of products with 8-bit weights may saturate"]
    return "\n".join([*lines, report["missing"]]).rstrip()


if __name__ == "__main__":
    main()
