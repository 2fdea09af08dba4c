"""Splits of a labelled dataset: into training, validation and test, and recognized again later."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

from bakit.data.labels import LEAST_IMAGES
from bakit.data.overlap import id_hashes, join_hashes, shared_ids
from bakit.errors import InputError
from bakit.settings import (
    MAX_VALIDATION_SHARE,
    MIN_VALIDATION_SHARE,
    VALIDATION_SHARE,
    SplitRecord,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from bakit.data.labels import Sample
    from bakit.types import Ints

PartName: TypeAlias = Literal["train", "validation", "test"]
"""The fields of ``Split``."""

Item = TypeVar("Item")


class Split(NamedTuple):
    """The training, validation and test splits of a dataset, which are disjoint."""

    train: list[Sample]
    validation: list[Sample]
    test: list[Sample]


def split(
    samples: Sequence[Sample],
    seed: int = 0,
    exclude: Collection[str] = (),
    validation_share: float = VALIDATION_SHARE,
) -> Split:
    """Split into training, validation and test, by default 7:2:1 (the paper, "Dataset").

    All images of one patient are in the same part. The test split is a tenth of the images, which
    does not depend on ``validation_share``.

    Args:
        samples: All samples; the result does not depend on their order.
        seed: Seed of the shuffle.
        exclude: Ids to exclude from all three splits.
        validation_share: Share of the images in the validation split.

    Raises:
        InputError: If there are too few samples, or the share is not possible.
    """
    if not MIN_VALIDATION_SHARE <= validation_share <= MAX_VALIDATION_SHARE:
        message = (
            f"--validation-share {validation_share:g} is not possible; use "
            f"{MIN_VALIDATION_SHARE:g} to {MAX_VALIDATION_SHARE:g}"
        )
        raise InputError(message)
    ordered = sorted((sample for sample in samples if sample.id not in exclude), key=lambda s: s.id)
    order = np.random.default_rng(seed).permutation(len(ordered))
    shuffled = [ordered[index] for index in order]
    # A share such as 0.29 is a little less in binary, and 100 images would give 28.
    test, validation = len(shuffled) // 10, math.floor(len(shuffled) * validation_share + 1e-6)
    least = max(LEAST_IMAGES, math.ceil(1 / validation_share - 1e-6))
    if len(shuffled) < least:
        message = (
            f"{len(shuffled)} labelled images are too few for a split into training, validation "
            f"and test; at least {least} are needed"
        )
        raise InputError(message)
    if any(sample.patient for sample in shuffled):
        shuffled = _by_patient(shuffled)
        test = _next_patient(shuffled, test)
        validation = _next_patient(shuffled, test + validation) - test
    return Split(shuffled[test + validation :], shuffled[test : test + validation], shuffled[:test])


def _by_patient(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples with those of one patient together, by first appearance."""
    together: dict[str, list[Sample]] = {}
    for sample in samples:
        together.setdefault(_patient(sample), []).append(sample)
    return [sample for images in together.values() for sample in images]


def _next_patient(samples: Sequence[Sample], start: int) -> int:
    """Return the first place from ``start`` on where another patient begins."""
    while 0 < start < len(samples) and _patient(samples[start]) == _patient(samples[start - 1]):
        start += 1
    return start


def _patient(sample: Sample) -> str:
    """Return a patient, or the image itself: an image without a patient is of its own."""
    return f"patient {sample.patient}" if sample.patient else f"image {sample.id}"


def patient_numbers(samples: Sequence[Sample]) -> Ints | None:
    """Return the patients as numbers from 0, ``(N,)``; None if there are only single images."""
    names = [_patient(sample) for sample in samples]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    if len(numbers) == len(names):
        return None
    return np.array([numbers[name] for name in names])


def split_record(
    parts: Split,
    seed: int,
    excluded_ids: Collection[str],
    validation_share: float = VALIDATION_SHARE,
    starts: Iterable[SplitRecord] = (),
) -> SplitRecord:
    """Return the record of a split that a checkpoint stores.

    ``starts`` are those of the weights that it began with or learned from: their training and
    validation images are recognized as its own.
    """
    digests = {name: ids_digest(getattr(parts, name)) for name in Split._fields}
    hashes = {name: id_hashes(getattr(parts, name)) for name in Split._fields}
    for start in starts:
        for name in ("train", "validation"):
            hashes[name] = join_hashes(hashes[name], start.id_hashes.get(name, ""))
    return SplitRecord(seed, tuple(sorted(excluded_ids)), digests, hashes, validation_share)


def known_split(samples: Sequence[Sample], record: SplitRecord) -> Split | None:
    """Return the samples that are in each part of a record, or None if these are other images.

    Images that the record does not know, or that its training excluded, are in no part.
    """
    try:
        parts = split(samples, record.seed, record.excluded_ids, record.validation_share)
    except InputError:  # too few images for a split at all
        pass
    else:
        if {name: ids_digest(getattr(parts, name)) for name in Split._fields} == record.ids_sha256:
            return parts
    found = []
    for name in Split._fields:
        ids = shared_ids(samples, record.id_hashes.get(name, ""))
        found.append([sample for sample in samples if sample.id in ids])
    return Split(*found) if any(found) else None


def take_part(
    samples: Sequence[Sample], records: Iterable[SplitRecord], part: PartName = "test"
) -> list[Sample] | None:
    """Return the images that are in the same part of all models that know any of them.

    Args:
        samples: A labelled folder; its order is kept.
        records: The split records of the models; records of other images are ignored.
        part: The part; models are measured on ``test``, to which images belong that the model has
            never seen: all that are neither in training nor in validation nor excluded.

    Returns:
        None if no model was trained, selected or tested on any of these images. Older records have
        no hashes of ids, and recognize exactly their own folder.
    """
    usable: set[str] | None = None
    for record in records:
        parts = known_split(samples, record)
        if parts is None:
            continue
        ids = {sample.id for sample in getattr(parts, part)}
        if part == "test":
            seen = {s.id for s in (*parts.train, *parts.validation)} | set(record.excluded_ids)
            ids = {sample.id for sample in samples} - seen
        usable = ids if usable is None else usable & ids
    return None if usable is None else [sample for sample in samples if sample.id in usable]


def thin(items: Sequence[Item], limit: int | None) -> list[Item]:
    """Return at most ``limit`` samples, or pairs of them, spread evenly."""
    wanted = min(limit or len(items), len(items))
    return [items[index * len(items) // wanted] for index in range(wanted)]


def ids_digest(samples: Iterable[Sample]) -> str:
    """Return the SHA-256 of the sorted ids, which identifies a split."""
    text = "\n".join(sorted(sample.id for sample in samples))
    return hashlib.sha256(text.encode()).hexdigest()
