"""Prepare the phone's inputs: plan, models, and tensors of golden images and drift set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bakit.bench.drift.compare import check_age
from bakit.bench.phone.messages import BundlePlan, ModelPlan, Plan
from bakit.bench.phone.web import runtime_module
from bakit.bench.raw import Reading
from bakit.hand.prepare import to_bytes
from bakit.hand.working import working_image
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.prediction import is_male

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from bakit.bench.phone.messages import Provider
    from bakit.bench.task import Task
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.runtime import Runtime
    from bakit.types import Bytes, Grey, OnProgress


MAX_QUERIES = 300
"""Maximum number of queries of each model, unless ``--queries`` is larger: browsers on phones have
crashed after about 500 runs on a GPU."""

MAX_LOCALIZER_DIFFERENCE = 0.02
"""Maximum difference of a certainty, or share of different labels. Rounding of float32 gives 1e-5
in Chromium; differences that change a box are far larger than this limit."""


def localizer_fault(difference: float) -> str:
    """Return what is wrong with a difference beyond that limit."""
    return (
        f"the localizer's output for a golden image differs by {difference:.3g}, "
        f"limit {MAX_LOCALIZER_DIFFERENCE:g}"
    )


CHUNK = 64
"""Images in one file of crops: 1 MB at 128 pixels."""


@dataclass(frozen=True)
class DriftInputs:
    """The drift set, prepared for the phone.

    Attributes:
        crops: Sets of crops, ``(N, S, S)`` uint8 each. The phone divides them by 255, which gives
            the same float32 values as on this machine.
        set_of: Index of each bundle's set.
        boxes: By bundle, the box of each image, located on this machine.
        references: By digest of the checkpoint, the reference's predictions on this machine.
    """

    crops: list[Bytes]
    set_of: list[int]
    boxes: list[list[Box]]
    references: dict[str, tuple[Reading, ...]]

    def of(self, bundles: Sequence[int]) -> DriftInputs:
        """Return the part of some bundles, by their numbers."""
        set_of, boxes = [self.set_of[i] for i in bundles], [self.boxes[i] for i in bundles]
        return replace(self, set_of=set_of, boxes=boxes)


class GoldenInputs(NamedTuple):
    """A bundle's golden images, with the crops of the export, as in ``bakit verify``.

    Attributes:
        working: The localizer's inputs, ``(G, h, h)`` float32.
        answers: Its outputs on this machine, ``(G, h, h)`` float32 or int32.
        crops: The regressor's inputs, ``(G, S, S)`` uint8.
    """

    working: Grey
    answers: npt.NDArray[Any]
    crops: Bytes

    def tobytes(self) -> bytes:
        """Return the three arrays, little-endian, one after the other."""
        return b"".join(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in self)


def golden_inputs(runtime: Runtime) -> GoldenInputs:
    """Prepare a bundle's golden images."""
    bundle = runtime.bundle
    working, answers, crops = [], [], []
    for golden in bundle.manifest.golden:
        grey = decode(bundle.files.read(golden.path))
        image = working_image(grey, bundle.manifest.localizer.size)
        (answer,) = runtime.localizer.session.run({"image": image[None, None]}).values()
        working.append(image)
        answers.append(answer)
        pixels = runtime.preprocess(grey, golden.box, inverted=golden.inverted, turn=golden.turn)
        crops.append(to_bytes(pixels))
    return GoldenInputs(np.stack(working), np.stack(answers), np.stack(crops))


def drift_inputs(
    runtimes: Sequence[Runtime],
    references: Mapping[str, Runtime],
    samples: Sequence[Sample],
    on_progress: OnProgress,
) -> DriftInputs:
    """Locate and crop every image, and predict it with the reference of each checkpoint.

    Bundles with the same localizer and preprocessing share their crops.

    Raises:
        ImageError: If an image cannot be used.
        VerificationError: If a reference's age is not a finite number.
    """
    keys = [_crop_key(runtime.bundle) for runtime in runtimes]
    first = dict(zip(reversed(keys), reversed(runtimes), strict=True))
    sets = list(dict.fromkeys(keys))
    crops: dict[Hashable, list[Bytes]] = {key: [] for key in sets}
    boxes: dict[Hashable, list[Box]] = {key: [] for key in sets}
    readings: dict[str, list[Reading]] = {digest: [] for digest in references}
    for done, sample in enumerate(samples, start=1):
        grey = decode(sample.path)
        whole = Box(0, 0, grey.shape[1], grey.shape[0])
        for key in sets:
            hand = first[key].prepare(grey)
            crops[key].append(to_bytes(hand.pixels))
            boxes[key].append(hand.found.box or whole)
        for digest, reference in references.items():
            hand = reference.prepare(grey)
            age = reference.regress(hand.pixels, male=sample.male)
            check_age(age, reference.bundle, sample)
            readings[digest].append(Reading(sample.id, age, hand.found.box or whole))
        on_progress("prepare", done, len(samples))
    return DriftInputs(
        crops=[np.stack(crops[key]) for key in sets],
        set_of=[sets.index(key) for key in keys],
        boxes=[boxes[key] for key in keys],
        references={digest: tuple(found) for digest, found in readings.items()},
    )


def _crop_key(bundle: Bundle) -> Hashable:
    """Return a key that is equal for bundles that crop every image in the same way."""
    manifest = bundle.manifest
    return tuple(sorted(bundle.artifact("localizer").files.values())), manifest.preprocessing


def make_plan(task: Task, drift: DriftInputs, provider: Provider) -> Plan:
    """Return the plan of a run."""
    settings = task.settings
    return Plan(
        run=0,
        provider=provider,
        threads=settings.threads or 1,
        runtime=runtime_module(provider),
        warm_up=settings.warm_up,
        min_queries=settings.min_queries,
        max_queries=max(settings.min_queries, MAX_QUERIES),
        min_duration_s=settings.min_duration_s,
        block=min(settings.block, settings.min_queries),
        drift_male=[int(sample.male) for sample in task.samples],
        chunk=CHUNK,
        bundles=[_bundle_plan(bundle, drift, index) for index, bundle in enumerate(task.bundles)],
    )


def _bundle_plan(bundle: Bundle, drift: DriftInputs, index: int) -> BundlePlan:
    manifest = bundle.manifest
    (answer,) = bundle.artifact("localizer").outputs
    reference = drift.references[manifest.checkpoint_sha256]
    return BundlePlan(
        name=bundle.name,
        precision=manifest.precision.value,
        models={
            artifact.role: ModelPlan(
                artifact.sha256,
                (bundle.root / artifact.path).stat().st_size,
                artifact.outputs[0].name,
            )
            for artifact in bundle.networks
        },
        working=manifest.localizer.size,
        side=manifest.preprocessing.image_size,
        sex=len(bundle.artifact("regressor").inputs) > 1,
        labels=answer.dtype == "int32",
        golden_male=[int(is_male(item.sex)) for item in manifest.golden],
        golden_months=[item.bundle_months for item in manifest.golden],
        tolerance_months=manifest.tolerance_months,
        localizer_tolerance=MAX_LOCALIZER_DIFFERENCE,
        crops=drift.set_of[index],
        float_months=[reading.age_months for reading in reference],
    )


def model_files(bundles: Sequence[Bundle]) -> dict[str, Path]:
    """Return the model files by their path below the token."""
    return {
        f"models/{index}/{artifact.role}": bundle.root / artifact.path
        for index, bundle in enumerate(bundles)
        for artifact in bundle.networks
    }


def tensor_files(goldens: Sequence[GoldenInputs], drift: DriftInputs) -> dict[str, bytes]:
    """Return the tensors by their path below the token."""
    tensors = {f"golden/{index}": golden.tobytes() for index, golden in enumerate(goldens)}
    for index, crops in enumerate(drift.crops):
        for start in range(0, len(crops), CHUNK):
            tensors[f"crops/{index}/{start}"] = crops[start : start + CHUNK].tobytes()
    return tensors
