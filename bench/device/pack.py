"""The work folder that the agent measures from: bundles, prepared images, and what to do.

A device without OpenCV cannot decode or preprocess. Here the reference bundle does both for every
image: the agent gets the localizer's working image and the regressor's crop, and what the float
model made of them. A device's localizer therefore moves no crop there: its boxes are compared for
themselves, and drift is the regressor's own.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

import bakit
from bakit.bench.drift.compare import check_age
from bakit.bundle import MANIFEST
from bakit.hand.prepare import crop, to_bytes
from bakit.hand.working import working_image
from bakit.image.read import decode
from bakit.prediction import is_male
from bakit.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from bakit.bench.report.document import DataInfo
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.image.box import Box
    from bakit.types import Grey

    Row = dict[str, npt.NDArray[Any] | float | bool]

AGENT = Path(__file__).with_name("agent.py")

MAX_IMAGES = 32
"""Different images in the latency run."""


@dataclass(frozen=True)
class AgentSettings:
    """How a device measures.

    Attributes:
        min_queries: Least queries of each bundle.
        min_duration_s: Least time in each bundle's queries.
        warm_up: Least predictions before the first query that counts.
        warm_up_s: Least time in them.
        threads: Threads of ONNX Runtime; its own choice when None.
        engine: ``auto``, ``tensorrt``, ``trtexec`` or ``onnxruntime``.
        allow_downgrade: Build INT8 bundles as FP16 where the GPU has no INT8 unit.
        workspace_mb: Memory that TensorRT's builder may use, in 2^20 bytes.
        energy_s: Length of the run that energy is measured in; 0: none.
        cache: Where the device keeps its engines.
        max_images: Different images in the latency run.
    """

    min_queries: int = 100
    min_duration_s: float = 5.0
    warm_up: int = 10
    warm_up_s: float = 1.0
    threads: int | None = None
    engine: str = "auto"
    allow_downgrade: bool = False
    workspace_mb: int = 256
    energy_s: float = 10.0
    cache: str = "~/.cache/bakit/engines"
    max_images: int = MAX_IMAGES


class DriftSet(NamedTuple):
    """Labelled images, and what they are measured against.

    Attributes:
        info: The labelled images.
        samples: The same, one by one; at least one.
        references: The float bundle of each checkpoint.
    """

    info: DataInfo
    samples: Sequence[Sample]
    references: Mapping[str, Bundle]


def write_job(
    folder: Path,
    bundles: Sequence[Bundle],
    settings: AgentSettings,
    drift: DriftSet | None = None,
    *,
    keep: bool = False,
    on_image: Callable[[], None] = lambda: None,
) -> Path:
    """Write a work folder.

    Args:
        folder: An empty folder.
        bundles: What to measure.
        settings: How.
        drift: The labelled images; None to measure latency on the bundles' phantoms alone.
        keep: Whether the device keeps the images.
        on_image: Called after each image and bundle.

    Returns:
        ``folder``.

    Raises:
        BakitError: If an image cannot be used or a bundle cannot be run here.
    """
    shutil.copyfile(AGENT, folder / "agent.py")
    sets: dict[object, str] = {}
    entries = []
    for index, bundle in enumerate(bundles):
        name = f"bundle-{index}"
        _copy_sealed(bundle, folder / name)
        golden = f"golden-{index}.npz"
        _write_arrays(folder / golden, _golden_rows(bundle))
        entry: dict[str, Any] = {
            "name": bundle.name,
            "folder": name,
            "golden": golden,
            "samples": None,
        }
        if drift is not None:
            manifest = bundle.manifest
            reference = drift.references[manifest.checkpoint_sha256]
            # Bundles that were prepared for alike share the images.
            key = (reference.sha256, manifest.preprocessing, manifest.localizer)
            if key not in sets:
                sets[key] = f"samples-{len(sets)}.npz"
                rows = _sample_rows(bundle, reference, drift.samples, on_image)
                _write_arrays(folder / sets[key], rows)
            entry |= {
                "samples": sets[key],
                "ids": [sample.id for sample in drift.samples],
                "reference": reference.name,
                "reference_target": reference.manifest.target,
            }
        entries.append(entry)
        on_image()
    job = {
        "version": 1,
        "bakit": bakit.__version__,
        "keep": keep,
        "settings": asdict(settings),
        "data": msgspec.to_builtins(drift.info) if drift else None,
        "bundles": entries,
    }
    (folder / "job.json").write_text(json.dumps(job, indent=2), encoding="utf-8")
    return folder


def _copy_sealed(bundle: Bundle, to: Path) -> None:
    """Copy the manifest and what it seals; nothing else that lies in the folder."""
    names = {MANIFEST, *(item.path for item in bundle.manifest.golden)}
    for artifact in bundle.manifest.artifacts:
        names |= artifact.files.keys()
    for name in names:
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.root / name, target)


def _golden_rows(bundle: Bundle) -> list[Row]:
    """Return the bundle's phantoms with the ages of its export, on the crops of its export."""
    rows: list[Row] = []
    for golden in bundle.manifest.golden:
        grey = decode(bundle.root / golden.path)
        row = _inputs(grey, golden.box, golden.inverted, bundle, male=is_male(golden.sex))
        rows.append(row | {"expected_months": golden.bundle_months})
    return rows


def _sample_rows(
    bundle: Bundle, reference: Bundle, samples: Sequence[Sample], on_image: Callable[[], None]
) -> list[Row]:
    """Return labelled images with all that the reference makes of them."""
    rows: list[Row] = []
    with Runtime(reference) as runtime:
        for sample in samples:
            grey = decode(sample.path)
            hand = runtime.prepare(grey)
            row = _inputs(grey, hand.box, hand.inverted, bundle, male=sample.male)
            age = runtime.regress(hand.pixels, male=sample.male)
            row["float_months"] = check_age(age, reference, sample)
            row["true_months"] = sample.age_months
            row["maps"] = (
                np.zeros((1, 1), np.float32)
                if hand.localizer_output is None
                else hand.localizer_output.output
            )
            rows.append(row)
            on_image()
    return rows


def _inputs(grey: Grey, box: Box | None, inverted: bool, bundle: Bundle, *, male: bool) -> Row:
    """Return what the two models of a bundle are fed."""
    manifest = bundle.manifest
    return {
        "working": working_image(grey, manifest.localizer.size),
        "crops": to_bytes(crop(grey, box, inverted, manifest.preprocessing)),
        "male": male,
    }


def _write_arrays(path: Path, rows: Sequence[Row]) -> None:
    arrays: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    np.savez(path, **arrays)


def count_steps(bundles: Sequence[Bundle], drift: DriftSet | None) -> int:
    """Return how often ``write_job`` calls ``on_image``."""
    if drift is None:
        return len(bundles)
    manifests = [bundle.manifest for bundle in bundles]
    keys = {(item.checkpoint_sha256, item.preprocessing, item.localizer) for item in manifests}
    return len(bundles) + len(keys) * len(drift.samples)
