"""A labelled dataset: ``labels.csv`` (id, boneage in months, male) and ``images/<id>.<suffix>``.

RSNA's folders are read as they come (docs/rsna.md). ``pair`` is a name that two images of one
child share; ``side`` is the hand, ``L`` or ``R``. Evaluation reads both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from bakit.data.images import SUFFIXES, image_files, look_at_images
from bakit.data.tables import COLUMNS, MORE_COLUMNS, find_table, read_table
from bakit.errors import InputError, LabelsError
from bakit.files import check_folder
from bakit.prediction import is_male
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from bakit.types import OnProgress

MAX_AGE_MONTHS = 240.0
LEAST_IMAGES = 10
"""Minimum number of images for a split, and to tell years from months."""
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


def ids_in(folders: Iterable[Path]) -> set[str]:
    """Return the ids of labelled folders."""
    return {sample.id for folder in folders for sample in read_samples(folder)}
