"""Write a bundle: models, golden inputs, manifest; check it; move it into place."""

from __future__ import annotations

import platform
from functools import lru_cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import cv2
import msgspec
import numpy as np

from bakit import __version__
from bakit.backends.ort import OrtSession
from bakit.bundle import MANIFEST, SCHEMA_VERSION, Bundle, Golden, Manifest, write_manifest
from bakit.documents import UNREADABLE
from bakit.errors import InputError, UnsupportedTargetError, VerificationError
from bakit.export.onnx.int8 import multiply_adds
from bakit.export.onnx.localizer import open_localizer
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import serialize
from bakit.export.spread import golden_tolerance
from bakit.files import new_folder, sha256
from bakit.hand.prepare import from_bytes, prepare
from bakit.hand.weights import method_of
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.phantoms import make_phantom
from bakit.quality.judge import Judge
from bakit.settings import StudentSettings
from bakit.targets import ExportRequest, get_target, targets
from bakit.types import Precision
from bakit.verify import MIN_BOX_IOU, check_golden

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.hand.found import Place
    from bakit.hand.prepare import Hand
    from bakit.model.checkpoint import Checkpoint
    from bakit.phantoms import Phantom
    from bakit.settings import LocalizerForm, Ranges
    from bakit.targets import Target
    from bakit.types import Grey
    from bakit.verify import GoldenCheck

GOLDENS = 16
"""Number of golden images in a bundle; a device is judged by their mean (``bakit.verify``)."""

GOLDEN_SEEDS = range(1, 65)
"""Seeds of the phantoms to choose from: the first ones that quality control accepts."""

GOLDEN_HEIGHT = 320
"""Height of the golden phantoms, in pixels: larger than the models' inputs, but small."""

FLOAT_TOLERANCE_MONTHS = 0.01

# Largest difference to the float model on a golden phantom. INT8 ranges come from training images,
# and phantoms can lie outside them: differences of a dozen months occurred. Broken scales change
# ages by much more. The gate measures accuracy, on real images.
FROM_FLOAT_MONTHS = {
    Precision.FP32: FLOAT_TOLERANCE_MONTHS,
    Precision.FP16: 0.5,
    Precision.INT8: 25.0,
    Precision.INT8_WEIGHTS: 5.0,
}


def export_bundle(
    checkpoint: Checkpoint,
    target_name: str,
    precision: Precision,
    out: Path,
    *,
    ranges: Ranges | None = None,
    localizer_form: LocalizerForm | None = None,
    whole: bool = False,
    force: bool = False,
) -> Bundle:
    """Export a checkpoint for one target.

    Args:
        checkpoint: The float checkpoint.
        target_name: Name of the target.
        precision: Number format of the regressor.
        out: The bundle's folder; an existing bundle of the same checkpoint is replaced at the end.
        ranges: INT8 activation ranges; the checkpoint's own when None.
        localizer_form: How the SGD steps are written (``bakit.settings.LocalizerForm``); the
            target's default when None.
        whole: Whether to write the whole graph too, from a film to its age.
        force: Whether to replace a bundle of another checkpoint.

    Raises:
        UnsupportedTargetError: If the target is unknown, or does not support the precision or the
            localizer, or has no whole graph in it.
        InputError: If ranges for INT8 are missing, or ``out`` is not empty and not a bundle, or one
            of another checkpoint.
        VerificationError: If the written models do not reproduce the float model.
    """
    ranges = check_export(
        checkpoint, target_name, precision, out, ranges=ranges, whole=whole, force=force
    )
    target = get_target(target_name)
    exporter = target.load_exporter()
    form = localizer_form or target.localizer_form
    request = ExportRequest(precision, form, ranges, whole)
    with new_folder(out) as folder:
        artifacts = tuple(exporter.export(checkpoint, request, folder))
        header = checkpoint.header
        golden = _write_golden(checkpoint, folder)
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            target=target.name,
            precision=precision,
            artifacts=artifacts,
            preprocessing=header.preprocessing,
            localizer=header.localizer,
            localizer_form=form,
            output_unit="months",
            checkpoint=checkpoint.name,
            checkpoint_sha256=checkpoint.sha256,
            calibration=f"{ranges.method}, {ranges.samples} images" if ranges else None,
            calibration_sha256=ranges.calibration_sha256 if ranges else None,
            golden=golden,
            tolerance_months=golden_tolerance(checkpoint, request, folder, golden),
            tool_versions=_tool_versions(target.writers),
            training_data=_training_data(checkpoint),
            split=header.training.split if header.training else None,
            intervals=header.intervals,
            calibration_images=ranges.images_sha256 if ranges else (),
            calibration_ids=ranges.id_hashes if ranges else "",
            float_layers=ranges.float_layers if ranges else None,
            parameters=checkpoint.parameters,
            multiply_adds=sum(multiply_adds(regressor_model(checkpoint)).values()),
            quality=header.quality,
        )
        write_manifest(folder, manifest)
        checks = check_golden(Bundle.read(folder), backend=target.load_checker())
        _compare_with_float(checks, manifest)
        answers = tuple(
            msgspec.structs.replace(golden, bundle_months=round(check.age_months, 4))
            for golden, check in zip(manifest.golden, checks, strict=True)
        )
        manifest = msgspec.structs.replace(manifest, golden=answers)
        write_manifest(folder, manifest)
    bundle = Bundle.read(out)
    getattr(exporter, "finish", lambda _: None)(bundle)
    return bundle


def check_export(
    checkpoint: Checkpoint,
    target_name: str,
    precision: Precision,
    out: Path,
    *,
    ranges: Ranges | None = None,
    whole: bool = False,
    force: bool = False,
) -> Ranges | None:
    """Raise what ``export_bundle`` raises before it writes; return the ranges that it uses.

    Raises:
        MissingBackendError: If a library of the target is not installed.
    """
    target = get_target(target_name)
    target.check_precision(precision)
    method = method_of(checkpoint.header.localizer)
    if method not in target.localizers:
        options = " or ".join(f"--localizer {name}" for name in target.localizers)
        message = f"target {target.name!r} has no {method} localizer; use {options}"
        raise UnsupportedTargetError(message)
    if whole:
        _check_whole(checkpoint, target, precision)
    if precision is not Precision.INT8:
        ranges = None
    elif ranges is None:
        ranges = checkpoint.header.ranges
        if ranges is None:
            message = (
                f"{checkpoint.path}: contains no INT8 ranges; pass --calibration DATA with its "
                "training images, or use --precision fp32"
            )
            raise InputError(message)
    _check_out(out, checkpoint, force=force)
    target.load_exporter()
    target.load_checker()
    return ranges


def _check_whole(checkpoint: Checkpoint, target: Target, precision: Precision) -> None:
    """Raise an error if a checkpoint has no whole graph for a target and precision."""
    if precision not in target.whole:
        able = [
            f"{item.name} ({', '.join(sorted(p.value for p in item.whole))})"
            for item in targets().values()
            if item.whole
        ]
        message = f"target {target.name!r} has no whole graph in {precision.value}; "
        message += f"these have: {', '.join(able)}"
        raise UnsupportedTargetError(message)
    header = checkpoint.header
    if not (isinstance(header.localizer, StudentSettings) and header.preprocessing.localize):
        message = f"{checkpoint.path}: the whole graph needs the student localizer, to find hands "
        message += "in the graph; export with --localizer student, or without --whole"
        raise InputError(message)


def _check_out(out: Path, checkpoint: Checkpoint, *, force: bool) -> None:
    """Refuse to replace anything but a bundle of the same checkpoint."""
    if not out.exists() or not any(out.iterdir()):
        return
    try:
        # Not Bundle.read: a damaged bundle is mended by exporting it again.
        before = msgspec.json.decode((out / MANIFEST).read_bytes())["checkpoint_sha256"]
    except FileNotFoundError as error:
        message = f"{out}: not empty and not a bundle; use another --out"
        raise InputError(message) from error
    except (*UNREADABLE, KeyError, TypeError):
        return
    if before != checkpoint.sha256 and not force:
        message = f"{out}: a bundle of another checkpoint; use another --out, or --force"
        raise InputError(message)


def _compare_with_float(checks: Sequence[GoldenCheck], manifest: Manifest) -> None:
    """Reject a bundle whose ages differ too much from the float model's, for its precision."""
    allowed = FROM_FLOAT_MONTHS[manifest.precision]
    for check in checks:
        change = abs(check.age_months - check.float_months)
        if not (change <= allowed and check.box_iou >= MIN_BOX_IOU):  # NaN fails too
            message = (
                f"the exported {manifest.target} {manifest.precision.value} model predicts "
                f"{check.age_months:.2f} months for {check.path}, the float model "
                f"{check.float_months:.2f} (allowed difference: {allowed}); box overlap "
                f"{check.box_iou:.2f} (at least {MIN_BOX_IOU}); nothing was written"
            )
            raise VerificationError(message)


class _Candidate(NamedTuple):
    """A phantom with the float model's age."""

    seed: int
    png: bytes
    male: bool
    months: float
    place: Place


@lru_cache(maxsize=len(GOLDEN_SEEDS))
def _golden_phantom(seed: int) -> tuple[Phantom, bytes]:
    """Return a phantom and its PNG: all bundles of a process have the same."""
    phantom = make_phantom(seed, height=GOLDEN_HEIGHT)
    return phantom, cv2.imencode(".png", phantom.image)[1].tobytes()


def _write_golden(checkpoint: Checkpoint, folder: Path) -> tuple[Golden, ...]:
    """Write phantoms that quality control accepts, with the float model's ages.

    ONNX Runtime runs the float graphs, so torch is not needed. First, the graphs are compared with
    torch's results in the checkpoint.
    """
    header = checkpoint.header
    session = OrtSession(serialize(regressor_model(checkpoint)))
    _check_float_graph(checkpoint, session)
    localizer = open_localizer(checkpoint.localizer, header.localizer)
    judge = Judge(header.quality)
    size = header.preprocessing.image_size
    blank = np.zeros((size, size), np.float32)
    accepted: list[_Candidate] = []
    others: list[_Candidate] = []
    # Without limits there is nothing to choose by.
    for seed in GOLDEN_SEEDS if header.quality else GOLDEN_SEEDS[:GOLDENS]:
        phantom, data = _golden_phantom(seed)
        grey = decode(data)
        hand = prepare(grey, localizer, header.preprocessing)
        age = _float_age(session, hand.pixels, male=phantom.male)
        measures = judge.measures(grey, hand.localizer_output, hand.found, hand.pixels)
        without_image = partial(_float_age, session, blank, male=phantom.male)
        over = np.ascontiguousarray(hand.pixels[::-1, ::-1])
        upside_down = partial(_float_age, session, over, male=phantom.male)
        measures |= judge.age_measures(age, without_image, upside_down)
        is_good = judge.judge(hand.found, measures).status == "accept" and _is_plain(hand, grey)
        candidate = _Candidate(seed, data, phantom.male, round(age, 4), hand.found.place)
        (accepted if is_good else others).append(candidate)
        if len(accepted) == GOLDENS:
            break
    # A model that accepts too few phantoms still needs images to compare devices on.
    chosen = sorted([*accepted, *others][:GOLDENS])
    (folder / "golden").mkdir()
    golden = []
    for seed, png, male, months, place in chosen:
        name = f"golden/{seed}.png"
        (folder / name).write_bytes(png)
        golden.append(Golden(name, sha256(png), "M" if male else "F", months, months, *place))
    return tuple(golden)


def _is_plain(hand: Hand, grey: Grey) -> bool:
    """Return whether a film has neither frame nor turn: apps that compare their steps do none."""
    whole = Box(0, 0, grey.shape[1], grey.shape[0])
    output = hand.localizer_output
    return hand.found.turn == 0 and (output is None or output.window == whole)


def _float_age(session: OrtSession, pixels: Grey, *, male: bool) -> float:
    """Run the float graph on a crop ``(S, S)``."""
    feeds = {"image": pixels[None, None], "sex": np.array([[male]], np.float32)}
    return float(session.run(feeds)["age_months"].item())


def _check_float_graph(checkpoint: Checkpoint, session: OrtSession) -> None:
    """Compare the float graph with torch's results in the checkpoint."""
    reference = checkpoint.reference
    if reference is None:
        message = f"{checkpoint.path}: without torch's answers; export its run's best.safetensors"
        raise InputError(message)
    shape = (len(reference.sexes), *reference.images.shape[1:])
    images = np.broadcast_to(reference.images, shape)
    for image, sex, expected in zip(images, reference.sexes, reference.ages_months, strict=True):
        age = _float_age(session, from_bytes(image), male=bool(sex))
        if not abs(age - float(expected)) <= FLOAT_TOLERANCE_MONTHS:  # NaN fails too
            message = (
                f"the float graph predicts {age:.3f} months, torch predicted {expected:.3f}: the "
                "checkpoint is damaged, or this is a bug"
            )
            raise VerificationError(message)


def _tool_versions(writers: Sequence[str]) -> dict[str, str]:
    versions = {name: version(name) for name in ("numpy", "onnx", "onnxruntime", *writers)}
    return {"bakit": __version__, "python": platform.python_version()} | versions


def _training_data(checkpoint: Checkpoint) -> str:
    record = checkpoint.header.training
    return f"{record.data}; {record.terms}" if record else "not recorded"
