"""Tensors of the golden images and of the drift set, which this machine makes for the phone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bakit.bench.drift.compare import check_age
from bakit.bench.raw import Reading
from bakit.hand.prepare import to_bytes
from bakit.hand.working import working_image
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.prediction import is_male

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.runtime import Runtime
    from bakit.types import Bytes, OnProgress


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
        boxes: By bundle, the box that its localizer finds in each image, on this machine.
        references: By digest of the checkpoint, the answers of its reference on this machine.
    """

    crops: list[Bytes]
    set_of: list[int]
    boxes: list[list[Box]]
    references: dict[str, tuple[Reading, ...]]


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
    on_progress: OnProgress,
) -> DriftInputs:
    """Locate and crop every image, and run the references on it.

    Bundles that have the same localizer and the same preprocessing share their crops.

    Args:
        runtimes: The bundles that the phone runs, open here.
        references: The open reference of each checkpoint, by its digest.
        samples: Labelled images, at least one.
        on_progress: Called after each image.

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
            boxes[key].append(hand.box or whole)
        for digest, reference in references.items():
            hand = reference.prepare(grey)
            age = reference.regress(hand.pixels, male=sample.male)
            check_age(age, reference.bundle, sample)
            readings[digest].append(Reading(sample.id, age, hand.box or whole))
        on_progress("prepare", done, len(samples))
    return DriftInputs(
        crops=[np.stack(crops[key]) for key in sets],
        set_of=[sets.index(key) for key in keys],
        boxes=[boxes[key] for key in keys],
        references={digest: tuple(found) for digest, found in readings.items()},
    )


def _crop_key(bundle: Bundle) -> Hashable:
    """Return what decides a crop, given the image."""
    manifest = bundle.manifest
    return tuple(sorted(bundle.artifact("localizer").files.values())), manifest.preprocessing
