"""A labelled folder: ``labels.csv`` (id, boneage in months, male) and ``images/<id>.<suffix>``."""

from __future__ import annotations

import csv
import hashlib
import math
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from bakit.data.images import SUFFIXES, image_files, look_at_images
from bakit.errors import InputError, LabelsError
from bakit.settings import SplitRecord
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from bakit.types import OnProgress

PartName: TypeAlias = Literal["train", "validation", "test"]
"""The fields of ``Split``."""

TABLE = "labels.csv"
MAX_AGE_MONTHS = 240.0
LEAST_IMAGES = 10
"""Images that a 7:2:1 split needs."""
COLUMNS = ("id", "boneage", "male")


class Sample(NamedTuple):
    """One labelled radiograph; ``id`` is its name in ``labels.csv``."""

    id: str
    path: Path
    age_months: float
    male: bool


class Split(NamedTuple):
    """Three disjoint parts of a data set."""

    train: list[Sample]
    validation: list[Sample]
    test: list[Sample]


class Problem(NamedTuple):
    """A broken rule of ``labels.csv``: what is wrong with a row and how to fix it."""

    kind: Literal["no image", "bad age", "bad sex", "duplicate id"]
    text: str


class Row(NamedTuple):
    """One row of ``labels.csv``.

    Attributes:
        number: Line number; the header is row 1.
        id: Its id, which may have no image.
        sample: The labelled image; None where there is a problem.
        problems: All that is wrong with it.
    """

    number: int
    id: str
    sample: Sample | None
    problems: tuple[Problem, ...]


class Labels(NamedTuple):
    """The content of a labelled folder, good or bad.

    Attributes:
        rows: Every row, in the order of ``labels.csv``.
        images: The image files by id, those without a row included.
        spare: Image files whose id another file has already, and what is wrong with each.
    """

    rows: list[Row]
    images: dict[str, Path]
    spare: list[tuple[Path, str]]


def read_samples(folder: Path) -> list[Sample]:
    """Read a labelled folder, in the order of its ``labels.csv``.

    Raises:
        LabelsError: If a file or column is missing, an id has no image or stands twice, or a value
            is no age in 0..240 months or no True/False. The message names the row.
    """
    labels = read_labels(folder)
    for path, text in labels.spare:
        message = f"{path}: {text}"
        raise LabelsError(message)
    samples: list[Sample] = []
    for row in labels.rows:
        if row.sample is None:
            message = f"{folder / TABLE}:{row.number}: {row.problems[0].text}"
            raise LabelsError(message)
        samples.append(row.sample)
    return samples


def read_labels(folder: Path) -> Labels:
    """Read a labelled folder, with the rows that ``read_samples`` refuses.

    Raises:
        LabelsError: If a file, a column or the folder of images is missing, or there are no rows.
    """
    table = _read_table(folder / TABLE)
    images, spare = _images(folder / "images")
    rows: list[Row] = []
    seen: set[str] = set()
    for number, fields in table:
        row = _row(number, fields, images, seen)
        if row.id:  # of a row without one, that it has none is enough
            seen.add(row.id)
        rows.append(row)
    return Labels(rows, images, spare)


def find_unreadable(
    samples: Sequence[Sample], on_progress: OnProgress = silent
) -> list[tuple[Sample, str]]:
    """Decode the images of samples and return those that cannot be used, and why."""
    # Nothing is kept of an image that can be used.
    paths = [sample.path for sample in samples]
    outcomes = look_at_images(paths, lambda _path, _grey: None, on_progress, "checking images")
    return [(s, why.reason) for s, why in zip(samples, outcomes, strict=True) if why is not None]


def _read_table(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows as text with their line's number, at least one, each with all columns."""
    if not table.is_file():
        message = f"{table.parent}: not a data folder: it has no {TABLE} ({', '.join(COLUMNS)})"
        raise LabelsError(message)
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]  # blank lines are skipped
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{table}: not a CSV text file ({error})"
        raise LabelsError(message) from error
    if not rows:
        message = f"{table}: no rows; expected the header {','.join(COLUMNS)} and a row an image"
        raise LabelsError(message)
    missing = [column for column in COLUMNS if column not in rows[0][1]]
    if missing:
        message = f"{table}: column {missing[0]!r} is missing; expected {','.join(COLUMNS)}"
        raise LabelsError(message)
    return rows


def _images(folder: Path) -> tuple[dict[str, Path], list[tuple[Path, str]]]:
    """Return the image files by stem, and those that share a stem with another."""
    if not folder.is_dir():
        message = f"{folder}: no such folder; images belong in images/<id>{SUFFIXES[0]}"
        raise LabelsError(message)
    images: dict[str, Path] = {}
    spare: list[tuple[Path, str]] = []
    for path in image_files(folder):
        if path.stem in images:
            text = f"stands beside {images[path.stem].name}; keep one of them"
            spare.append((path, text))
        else:
            images[path.stem] = path
    return images, spare


def _row(
    number: int, fields: dict[str, str], images: dict[str, Path], seen: Collection[str]
) -> Row:
    """Apply the rules of ``labels.csv`` to one row; ``seen`` holds the ids above it."""
    name, text, word = ((fields[column] or "").strip() for column in COLUMNS)
    problems: list[Problem] = []
    if name not in images:
        message = f"id {name!r} has no image; expected images/<id>{SUFFIXES[0]}"
        problems.append(Problem("no image", message))
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if not 0 <= age <= MAX_AGE_MONTHS:
        message = f"boneage {text!r} is no age in months (0 to {MAX_AGE_MONTHS:.0f})"
        problems.append(Problem("bad age", message))
    male = {"true": True, "false": False}.get(word.lower())
    if male is None:
        problems.append(Problem("bad sex", f"male is {fields['male']!r}; use True or False"))
    if name in seen:
        problems.append(Problem("duplicate id", f"id {name!r} stands twice"))
    if problems or male is None:
        return Row(number, name, None, tuple(problems))
    return Row(number, name, Sample(name, images[name], age, male), ())


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
    test, validation = len(shuffled) // 10, len(shuffled) // 5
    if len(shuffled) < LEAST_IMAGES:
        message = (
            f"{len(shuffled)} labelled images are too few for a 7:2:1 split; "
            f"at least {LEAST_IMAGES}"
        )
        raise InputError(message)
    return Split(shuffled[test + validation :], shuffled[test : test + validation], shuffled[:test])


def ids_in(folders: Iterable[Path]) -> set[str]:
    """Return the ids of labelled folders, which are to be left out of a training."""
    return {sample.id for folder in folders for sample in read_samples(folder)}


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


def take_part(
    samples: Sequence[Sample], records: Iterable[SplitRecord], part: PartName = "test"
) -> list[Sample] | None:
    """Return the images that are in one part of every model that was trained on them, perhaps none.

    Args:
        samples: A labelled folder; its order is kept.
        records: The splits of the models; those of other images are ignored.
        part: Which part; models are judged on ``test`` alone.

    Returns:
        None if no model was trained on exactly these images. A subset of a model's training images
        cannot be recognised.
    """
    known = [parts for record in records if (parts := known_split(samples, record))]
    if not known:
        return None
    ids = [{sample.id for sample in getattr(parts, part)} for parts in known]
    shared = set.intersection(*ids)
    return [sample for sample in samples if sample.id in shared]


def thin(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """Return at most ``limit`` samples, spread evenly: of sorted ones, all kinds are kept."""
    wanted = min(limit or len(samples), len(samples))
    return [samples[index * len(samples) // wanted] for index in range(wanted)]


def ids_digest(samples: Iterable[Sample]) -> str:
    """Return the SHA-256 of the sorted ids: the identity of a part without its pixels."""
    text = "\n".join(sorted(sample.id for sample in samples))
    return hashlib.sha256(text.encode()).hexdigest()
