"""``bakit describe``: read a labelled dataset and find its errors before training."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.data.images import Unreadable, image_files, look_at_images
from bakit.data.labels import read_labels
from bakit.errors import InputError
from bakit.files import printable
from bakit.image.bounds import PNG
from bakit.image.jpeg import jpeg_frame
from bakit.image.read import pixel_digest, read_source
from bakit.studies.describe.document import (
    SCHEMA_VERSION,
    Ages,
    BadImage,
    Comparison,
    Description,
    Duplicate,
    Leak,
    RowProblem,
    Side,
    SizeCount,
    StorageCount,
    YearCount,
)
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bakit.data.labels import Sample
    from bakit.types import Grey, OnProgress


# Channels by colour type; a palette (3) has three.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


class Storage(NamedTuple):
    """The pixel format of a file.

    Attributes:
        format: ``png``, ``jpeg`` or ``other``, by content and not by name.
        bits: Bits per channel; 0 for other formats.
        channels: 1 grey, 2 grey with alpha, 3 colour, 4 colour with alpha or CMYK; 0 for other
            formats.
    """

    format: str
    bits: int
    channels: int


def read_storage(path: Path) -> Storage:
    """Read the header of an image file that can be decoded.

    Raises:
        ImageError: If the file cannot be read.
    """
    data = read_source(path)
    if data.startswith(PNG) and len(data) >= 26:
        return Storage("png", data[24], _PNG_CHANNELS.get(data[25], 0))
    if data.startswith(b"\xff\xd8"):
        frame = jpeg_frame(data)
        return Storage("jpeg", frame.bits, len(frame.factors)) if frame else Storage("jpeg", 0, 0)
    return Storage("other", 0, 0)


class _Look(NamedTuple):
    """Properties of one image."""

    digest: str
    size: tuple[int, int]
    storage: Storage


def describe(
    folder: Path, against: Sequence[Path] = (), on_progress: OnProgress = silent
) -> Description:
    """Read every row and image of a labelled folder, valid or not.

    ``against`` are folders that should share no image with it: labelled folders, or only images.
    Images with equal grey values are duplicates, whatever their names and formats.

    Raises:
        LabelsError: If ``labels.csv`` or the folder of images cannot be read.
        InputError: If a folder in ``against`` has no images or is ``folder``.
    """
    others = {other: _images_of(other, folder) for other in against}
    labels = read_labels(folder)
    ids = dict.fromkeys(row.id for row in labels.rows)  # of invalid rows, too
    named = [labels.images[name] for name in ids if name in labels.images]
    looks, bad = _look_at(named, on_progress, "images")
    samples = [row.sample for row in labels.rows if row.sample and row.sample.path in looks]
    sizes = Counter(look.size for look in looks.values())
    storage = Counter(look.storage for look in looks.values())
    males = sum(sample.male for sample in samples)
    return Description(
        schema_version=SCHEMA_VERSION,
        folder=printable(folder),
        rows=len(labels.rows),
        images=len(named),
        usable=len(samples),
        females=len(samples) - males,
        males=males,
        male_share=males / len(samples) if samples else None,
        ages={
            "all": _ages(samples),
            "female": _ages([sample for sample in samples if not sample.male]),
            "male": _ages([sample for sample in samples if sample.male]),
        },
        ages_by_year=_by_year(samples),
        widths=_side([look.size[0] for look in looks.values()]),
        heights=_side([look.size[1] for look in looks.values()]),
        sizes=tuple(SizeCount(*size, count) for size, count in sizes.most_common()),
        storage=tuple(StorageCount(*kind, count) for kind, count in storage.most_common()),
        row_problems=tuple(
            RowProblem(row.number, row.id, problem.kind, problem.text)
            for row in labels.rows
            for problem in row.problems
        ),
        unreadable=tuple(image for image in bad if not _is_blank(image)),
        blank=tuple(image for image in bad if _is_blank(image)),
        spare=tuple(_bad_image(path, text) for path, text in labels.spare),
        unlabelled=tuple(printable(name) for name in labels.images if name not in ids),
        duplicates=_duplicates(looks, samples),
        against=tuple(_compare(looks, named, *item, on_progress) for item in others.items()),
    )


def _images_of(other: Path, folder: Path) -> list[Path]:
    if other.resolve() == folder.resolve():
        message = f"{other}: the same folder as DATA; choose another folder for --against"
        raise InputError(message)
    home = other / "images" if (other / "images").is_dir() else other
    found = image_files(home) if home.is_dir() else []
    if not found:
        message = f"{other}: no PNG or JPEG images in it or in its images/"
        raise InputError(message)
    return found


def _look_at(
    paths: Sequence[Path], on_progress: OnProgress, step: str
) -> tuple[dict[Path, _Look], list[BadImage]]:
    """Read images; return the properties of the readable ones and the unreadable ones."""
    looks: dict[Path, _Look] = {}
    bad: list[BadImage] = []
    for path, look in zip(paths, look_at_images(paths, _look, on_progress, step), strict=True):
        if isinstance(look, Unreadable):
            bad.append(_bad_image(path, look.reason))
        else:
            looks[path] = look
    return looks, bad


def _look(path: Path, grey: Grey) -> _Look:
    height, width = grey.shape
    return _Look(pixel_digest(grey), (width, height), read_storage(path))


def _bad_image(path: Path, reason: str) -> BadImage:
    return BadImage(printable(path.stem), printable(path), printable(reason))


def _is_blank(image: BadImage) -> bool:
    return image.reason.startswith("blank")


def _ages(samples: Iterable[Sample]) -> Ages | None:
    months = np.array([sample.age_months for sample in samples])
    if not len(months):
        return None
    sd = float(months.std(ddof=1)) if len(months) > 1 else 0.0
    middle = float(months.mean()), sd, float(np.median(months))
    return Ages(len(months), *middle, float(months.min()), float(months.max()))


def _by_year(samples: Iterable[Sample]) -> tuple[YearCount, ...]:
    counts = Counter((int(sample.age_months // 12), sample.male) for sample in samples)
    last = max((year for year, _ in counts), default=-1)
    return tuple(YearCount(y, counts[y, False], counts[y, True]) for y in range(last + 1))


def _side(pixels: Sequence[int]) -> Side | None:
    return Side(min(pixels), float(np.median(pixels)), max(pixels)) if pixels else None


def _by_digest(looks: Mapping[Path, _Look]) -> dict[str, list[Path]]:
    paths: dict[str, list[Path]] = defaultdict(list)
    for path, look in looks.items():
        paths[look.digest].append(path)
    return paths


def _duplicates(looks: Mapping[Path, _Look], samples: Iterable[Sample]) -> tuple[Duplicate, ...]:
    """Group images by their pixels; invalid rows do not count for age and sex."""
    by_path = {sample.path: sample for sample in samples}
    found: list[Duplicate] = []
    for paths in _by_digest(looks).values():
        rows = [by_path[path] for path in paths if path in by_path]
        ages, sexes = {row.age_months for row in rows}, {row.male for row in rows}
        if len(paths) > 1:
            ids = tuple(path.stem for path in paths)
            found.append(Duplicate(ids, len(ages) > 1, len(sexes) > 1))
    return tuple(found)


def _compare(
    looks: Mapping[Path, _Look],
    named: Sequence[Path],
    other: Path,
    paths: Sequence[Path],
    on_progress: OnProgress,
) -> Comparison:
    theirs, bad = _look_at(paths, on_progress, f"images of {other.name}")
    by_digest = _by_digest(theirs)
    leaks = tuple(
        Leak(path.stem, tuple(printable(their.stem) for their in by_digest[look.digest]))
        for path, look in looks.items()
        if look.digest in by_digest
    )
    same = {leak.id for leak in leaks if leak.id in leak.other_ids}
    shared = {path.stem for path in named} & {path.stem for path in paths}
    return Comparison(printable(other), len(paths), tuple(bad), leaks, tuple(sorted(shared - same)))
