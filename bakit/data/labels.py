"""A labelled dataset: ``labels.csv`` (id, boneage in months, male) and ``images/<id>.<suffix>``.

RSNA's folders are read as they come (docs/rsna.md). ``pair`` is a name that two images of one
child share; ``side`` is the hand, ``L`` or ``R``. Evaluation reads both.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

from bakit.data.images import SUFFIXES, image_files, look_at_images
from bakit.data.overlap import id_hashes, join_hashes, shared_ids
from bakit.data.tables import COLUMNS, MORE_COLUMNS, find_table, read_table
from bakit.errors import InputError, LabelsError
from bakit.files import check_folder
from bakit.prediction import is_male
from bakit.settings import (
    MAX_VALIDATION_SHARE,
    MIN_VALIDATION_SHARE,
    VALIDATION_SHARE,
    SplitRecord,
)
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from bakit.types import Ints, OnProgress

PartName: TypeAlias = Literal["train", "validation", "test"]
"""The fields of ``Split``."""

Item = TypeVar("Item")

MAX_AGE_MONTHS = 240.0
LEAST_IMAGES = 10
"""Minimum number of images for a split."""
_MALE = {"true": True, "1": True, "false": False, "0": False}
"""Values of the column male; those of a column sex are words (``read_sex``)."""


class Sample(NamedTuple):
    """One labelled radiograph.

    Attributes:
        id: As in ``labels.csv``.
        age_months: NaN in a folder without ages, which only evaluation reads.
        pair: Name that two images of one child share; empty if there is none.
        side: The hand, as in ``labels.csv``; empty if there is none.
        patient: The optional column of that name, which images of one patient share. It decides
            splits and intervals, and is never stored.
    """

    id: str
    path: Path
    age_months: float
    male: bool
    pair: str = ""
    side: str = ""
    patient: str = ""


class Split(NamedTuple):
    """The training, validation and test splits of a dataset, which are disjoint."""

    train: list[Sample]
    validation: list[Sample]
    test: list[Sample]


class Problem(NamedTuple):
    """An error in a row of ``labels.csv``."""

    kind: Literal["no image", "bad age", "bad sex", "duplicate id"]
    text: str


class Row(NamedTuple):
    """One row of ``labels.csv``.

    Attributes:
        number: Line number; the header is row 1.
        id: The id; there may be no image with it.
        sample: The labelled image; None if the row has errors.
        problems: All errors of the row.
    """

    number: int
    id: str
    sample: Sample | None
    problems: tuple[Problem, ...]


class Labels(NamedTuple):
    """The content of a labelled folder, valid or not.

    Attributes:
        table: The table of labels.
        rows: Every row, in the order of the table.
        images: The image files by id, including those without a row.
        spare: Image files with the id of another file, and the error message of each.
        aged: Whether any row gives an age; False only if ages are not required.
        sexed: Whether any row gives a sex; False only if the sex is assumed.
    """

    table: Path
    rows: list[Row]
    images: dict[str, Path]
    spare: list[tuple[Path, str]]
    aged: bool = True
    sexed: bool = True


def read_samples(folder: Path) -> list[Sample]:
    """Read a labelled folder, in the order of its table.

    Raises:
        LabelsError: If a file or column is missing, an id has no image or is repeated, an age is
            not in 0..240 months, or a sex is not known. The message names the row.
    """
    return samples_of(read_labels(folder), folder)


def samples_of(labels: Labels, folder: Path) -> list[Sample]:
    """Return the samples of a folder (``read_labels``); raise as ``read_samples``."""
    for path, text in labels.spare:
        message = f"{path}: {text}"
        raise LabelsError(message)
    samples: list[Sample] = []
    for row in labels.rows:
        if row.sample is None:
            message = f"{labels.table}:{row.number}: {row.problems[0].text}"
            raise LabelsError(message)
        samples.append(row.sample)
    return samples


def read_labels(folder: Path, *, aged: bool = True, male: bool | None = None) -> Labels:
    """Read a labelled folder, including the rows that ``read_samples`` rejects.

    Args:
        folder: A folder with ``labels.csv`` and ``images/``, or with a table beside the folder of
            its name, as RSNA's ``boneage-training-dataset.csv``; or such a table.
        aged: Whether ages are required. If not, a folder may give none at all: the column is
            missing or empty.
        male: Sex of all images of a folder that gives none at all; required by default.

    Raises:
        LabelsError: If a file, a column or the folder of images is missing, there are no rows, a
            row has more fields than the header, or ages are probably years.
    """
    path, images_folder = find_table(folder)
    table = read_table(path)
    given = [name for name in COLUMNS if any(row.get(name, "").strip() for _, row in table)]
    sexed = "male" in given or male is None
    if not sexed:
        table = [(number, fields | {"male": f"{male}"}) for number, fields in table]
    elif not aged and "male" not in given:
        message = f"{path}: no sexes; add the column male (True or False), or use --sex"
        raise LabelsError(message)
    aged = aged or "boneage" in given
    for column in COLUMNS:
        if column not in table[0][1] and (aged or column != "boneage"):
            message = f"{path}: column {column!r} is missing; expected {','.join(COLUMNS)}"
            raise LabelsError(message)
    images, spare = _images(images_folder)
    rows: list[Row] = []
    seen: set[str] = set()
    for number, fields in table:
        row = _row(number, fields, images, seen, aged=aged)
        if row.id:  # an empty id is reported once, not as a duplicate
            seen.add(row.id)
        rows.append(row)
    ages = [row.sample.age_months for row in rows if row.sample]
    if len(ages) >= LEAST_IMAGES and max(ages) < MAX_AGE_MONTHS / 12:
        message = f"{path}: all ages are below {max(ages) + 1:.0f}, probably years; use months"
        raise LabelsError(message)
    return Labels(path, rows, images, spare, aged, sexed)


def find_unreadable(
    samples: Sequence[Sample], on_progress: OnProgress = silent
) -> list[tuple[Sample, str]]:
    """Decode the images of samples; return the unusable ones with the reason."""
    paths = [sample.path for sample in samples]
    outcomes = look_at_images(paths, lambda _path, _grey: None, on_progress, "checking images")
    return [(s, why.reason) for s, why in zip(samples, outcomes, strict=True) if why is not None]


def _images(folder: Path) -> tuple[dict[str, Path], list[tuple[Path, str]]]:
    """Return the image files by stem, and the files whose stem is already used."""
    check_folder(folder, LabelsError, f"images belong in {folder.name}/<id>{SUFFIXES[0]}")
    images: dict[str, Path] = {}
    spare: list[tuple[Path, str]] = []
    for path in image_files(folder):
        if path.stem in images:
            text = f"same id as {images[path.stem].name}; keep one of them"
            spare.append((path, text))
        else:
            images[path.stem] = path
    return images, spare


def _row(
    number: int,
    fields: dict[str, str],
    images: dict[str, Path],
    seen: Collection[str],
    *,
    aged: bool,
) -> Row:
    """Check one row of a table; ``seen`` holds the ids of the rows above."""
    name, text, word, *more = (
        fields.get(column, "").strip() for column in (*COLUMNS, *MORE_COLUMNS)
    )
    if name.lower().endswith(SUFFIXES):
        name = name.rpartition(".")[0]
    problems: list[Problem] = []
    if name not in images:
        message = f"id {name!r} has no image; expected images/<id>{SUFFIXES[0]}"
        problems.append(Problem("no image", message))
    try:
        age = math.nan if "_" in text else float(text)  # Python reads 1_20 as 120
    except ValueError:
        age = math.nan
    if aged and not 0 <= age <= MAX_AGE_MONTHS:
        message = f"boneage {text!r} is not an age in months (0 to {MAX_AGE_MONTHS:.0f})"
        problems.append(Problem("bad age", message))
    male = _MALE.get(word.lower())
    try:
        male = is_male(word) if male is None else male
    except InputError:
        message = f"male is {fields['male']!r}; use True or False, F or M"
        problems.append(Problem("bad sex", message))
    if name in seen:
        problems.append(Problem("duplicate id", f"id {name!r} is repeated"))
    if problems or male is None:
        return Row(number, name, None, tuple(problems))
    return Row(number, name, Sample(name, images[name], age, male, *more), ())


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


def ids_in(folders: Iterable[Path]) -> set[str]:
    """Return the ids of labelled folders."""
    return {sample.id for folder in folders for sample in read_samples(folder)}


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
