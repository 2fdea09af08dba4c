"""What the phone reads, made on this machine: tensors of the golden images and of the drift set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bakit.bench.drift.compare import check_age
from bakit.hand.prepare import to_bytes
from bakit.hand.working import working_image
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.prediction import is_male

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    import numpy.typing as npt

    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.runtime import Runtime
    from bakit.types import Bytes


CHUNK = 64
"""Images in one file of crops: 1 MB at 128 pixels."""


@dataclass(frozen=True)
class GoldenInputs:
    """Inputs of a bundle's golden images, and what this machine's localizer says of them.

    Attributes:
        data: Little-endian and one after the other: all working images ``(G, h, h)`` float32, all
            answers of the localizer ``(G, h, h)`` float32 or int32, all crops ``(G, S, S)`` uint8.
        male: Whether the child is male, by image.
    """

    data: bytes
    male: tuple[bool, ...]


@dataclass(frozen=True)
class DriftInputs:
    """The drift set as the phone reads it.

    Attributes:
        crops: Sets of crops, ``(N, S, S)`` uint8 each; they are divided by 255 on the phone, which
            gives this machine's float32 to the bit.
        set_of: Index of each bundle's set.
        float_months: ``(N,)`` float64 by bundle, ages of its reference on this machine.
        box_iou_mean: By bundle, mean overlap of its boxes with its reference's.
    """

    crops: list[Bytes]
    set_of: list[int]
    float_months: list[npt.NDArray[np.float64]]
    box_iou_mean: list[float]


def golden_inputs(runtime: Runtime) -> GoldenInputs:
    """Prepare a bundle's golden images: the crop is the one of the export, as in ``bakit verify``.

    Raises:
        BakitError: If an image cannot be used.
    """
    bundle = runtime.bundle
    working, answers, crops = [], [], []
    for golden in bundle.manifest.golden:
        grey = decode(bundle.root / golden.path)
        image = working_image(grey, bundle.manifest.localizer.size)
        (answer,) = runtime.localizer.session.run({"image": image[None, None]}).values()
        working.append(image.astype("<f4"))
        answers.append(answer.astype("<i4" if answer.dtype == np.int32 else "<f4"))
        pixels = runtime.preprocess(grey, golden.box, inverted=golden.inverted)
        crops.append(to_bytes(pixels))
    data = b"".join(array.tobytes() for array in (*working, *answers, *crops))
    return GoldenInputs(data, tuple(is_male(golden.sex) for golden in bundle.manifest.golden))


def drift_inputs(
    runtimes: Sequence[Runtime],
    references: Mapping[str, Runtime],
    samples: Sequence[Sample],
    on_share: Callable[[float], None],
) -> DriftInputs:
    """Locate and crop every image, and run the references on it.

    Bundles that have the same localizer and the same preprocessing share their crops.

    Args:
        runtimes: The bundles that the phone runs, open here.
        references: The open reference of each checkpoint, by its digest.
        samples: Labelled images, at least one.
        on_share: Called after each image with the share that is done, 0..1.

    Raises:
        ImageError: If an image cannot be used.
        VerificationError: If a reference's age is not a finite number.
    """
    keys = [_crop_key(runtime.bundle) for runtime in runtimes]
    sets = list(dict.fromkeys(keys))
    first = {key: runtimes[keys.index(key)] for key in sets}
    crops: dict[Hashable, list[Bytes]] = {key: [] for key in sets}
    floats: dict[str, list[float]] = {digest: [] for digest in references}
    overlaps: list[list[float]] = [[] for _ in runtimes]
    for index, sample in enumerate(samples, start=1):
        grey = decode(sample.path)
        whole = Box(0, 0, grey.shape[1], grey.shape[0])
        hands = {key: runtime.prepare(grey) for key, runtime in first.items()}
        for key, hand in hands.items():
            crops[key].append(to_bytes(hand.pixels))
        reference_boxes = {}
        for digest, reference in references.items():
            hand = reference.prepare(grey)
            age = reference.regress(hand.pixels, male=sample.male)
            floats[digest].append(check_age(age, reference.bundle, sample))
            reference_boxes[digest] = hand.box or whole
        for row, runtime in enumerate(runtimes):
            other = reference_boxes[runtime.bundle.manifest.checkpoint_sha256]
            overlaps[row].append((hands[keys[row]].box or whole).iou(other))
        on_share(index / len(samples))
    return DriftInputs(
        crops=[np.stack(crops[key]) for key in sets],
        set_of=[sets.index(key) for key in keys],
        float_months=[
            np.array(floats[runtime.bundle.manifest.checkpoint_sha256]) for runtime in runtimes
        ],
        box_iou_mean=[float(np.mean(values)) for values in overlaps],
    )


def _crop_key(bundle: Bundle) -> Hashable:
    """Return what decides a crop, given the image."""
    manifest = bundle.manifest
    return tuple(sorted(bundle.artifact("localizer").files.values())), manifest.preprocessing
