"""A labelled folder: ``labels.csv`` (id, boneage in months, male) and ``images/<id>.<suffix>``."""

from __future__ import annotations

import csv
import hashlib
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.errors import InputError, LabelsError
from bakit.settings import SplitRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_AGE_MONTHS = 240.0
COLUMNS = ("id", "boneage", "male")


class Sample(NamedTuple):
    """One labelled radiograph.

    Attributes:
        id: Its name in ``labels.csv``.
        path: The image file.
        age_months: Bone age.
        male: Whether the child is male.
    """

    id: str
    path: Path
    age_months: float
    male: bool


class Split(NamedTuple):
    """Three disjoint parts of a data set."""

    train: list[Sample]
    validation: list[Sample]
    test: list[Sample]


def read_samples(folder: Path) -> list[Sample]:
    """Read a labelled folder, in the order of its ``labels.csv``.

    Raises:
        LabelsError: If a file or column is missing, an id has no image or stands twice, or a value
            is no age in 0..240 months or no True/False. The message names the row.
    """
    table = folder / "labels.csv"
    if not table.is_file():
        message = f"{folder}: not a data folder: it has no labels.csv ({', '.join(COLUMNS)})"
        raise LabelsError(message)
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{table}: not a CSV text file ({error})"
        raise LabelsError(message) from error
    if not rows:
        message = f"{table}: no rows; expected the header {','.join(COLUMNS)} and a row an image"
        raise LabelsError(message)
    missing = [column for column in COLUMNS if column not in rows[0]]
    if missing:
        message = f"{table}: column {missing[0]!r} is missing; expected {','.join(COLUMNS)}"
        raise LabelsError(message)
    images = _images(folder / "images")
    samples: list[Sample] = []
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        where = f"{table}:{number}"
        sample = _sample(row, images, where)
        if sample.id in seen:
            message = f"{where}: id {sample.id!r} stands twice"
            raise LabelsError(message)
        seen.add(sample.id)
        samples.append(sample)
    return samples


def _images(folder: Path) -> dict[str, Path]:
    """Return the image files by stem."""
    if not folder.is_dir():
        message = f"{folder}: no such folder; images belong in images/<id>{SUFFIXES[0]}"
        raise LabelsError(message)
    images: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            if path.stem in images:
                message = f"{path}: stands beside {images[path.stem].name}; keep one of them"
                raise LabelsError(message)
            images[path.stem] = path
    return images


def _sample(row: dict[str, str], images: dict[str, Path], where: str) -> Sample:
    name = (row["id"] or "").strip()
    if name not in images:
        message = f"{where}: id {name!r} has no image; expected images/<id>{SUFFIXES[0]}"
        raise LabelsError(message)
    text = (row["boneage"] or "").strip()
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if not 0 <= age <= MAX_AGE_MONTHS:
        message = f"{where}: boneage {text!r} is no age in months (0 to {MAX_AGE_MONTHS:.0f})"
        raise LabelsError(message)
    male = {"true": True, "false": False}.get((row["male"] or "").strip().lower())
    if male is None:
        message = f"{where}: male is {row['male']!r}; use True or False"
        raise LabelsError(message)
    return Sample(name, images[name], age, male)


def split(samples: Sequence[Sample], seed: int = 0, exclude: Collection[str] = ()) -> Split:
    """Split 7:2:1 into training, validation and test parts (the paper, "Dataset").

    Args:
        samples: All samples; the result does not depend on their order.
        seed: Seed of the shuffle.
        exclude: Ids to leave out of all three parts.

    Raises:
        InputError: If a part would be empty.
    """
    ordered = sorted((sample for sample in samples if sample.id not in exclude), key=lambda s: s.id)
    order = np.random.default_rng(seed).permutation(len(ordered))
    shuffled = [ordered[index] for index in order]
    test = len(shuffled) // 10
    validation = len(shuffled) // 5
    if not test:
        message = f"{len(shuffled)} labelled images are too few for a 7:2:1 split; at least 10"
        raise InputError(message)
    return Split(shuffled[test + validation :], shuffled[test : test + validation], shuffled[:test])


def split_record(parts: Split, seed: int, excluded_ids: Collection[str]) -> SplitRecord:
    """Return what a checkpoint remembers of a split."""
    digests = {name: ids_digest(getattr(parts, name)) for name in Split._fields}
    return SplitRecord(seed, tuple(sorted(excluded_ids)), digests)


def known_split(samples: Sequence[Sample], record: SplitRecord) -> Split | None:
    """Return the split that a record describes, or None if these are other images."""
    try:
        parts = split(samples, record.seed, record.excluded_ids)
    except InputError:  # too few images for a split at all
        return None
    same = split_record(parts, record.seed, record.excluded_ids).ids_sha256 == record.ids_sha256
    return parts if same else None


def ids_digest(samples: Iterable[Sample]) -> str:
    """Return the SHA-256 of the sorted ids: the identity of a part without its pixels."""
    text = "\n".join(sorted(sample.id for sample in samples))
    return hashlib.sha256(text.encode()).hexdigest()
