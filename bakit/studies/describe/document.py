"""The description of a labelled folder, as data."""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA_VERSION = 1


class Ages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bone ages of some images, at least one, in months; SD as training takes it (``ddof=1``)."""

    images: int
    mean: float
    sd: float
    median: float
    min: float
    max: float


class YearCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Usable images with a bone age of ``year`` to just under ``year + 1`` years."""

    year: int
    female: int
    male: int


class Side(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Widths or heights of images, in pixels."""

    min: int
    median: float
    max: int


class SizeCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Images of one size, in pixels."""

    width: int
    height: int
    images: int


class StorageCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Images that store their pixels in one way (``image_header.Storage``)."""

    format: str
    bits: int
    channels: int
    images: int


class RowProblem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that is wrong with one row of ``labels.csv``; the header is row 1."""

    row: int
    id: str
    kind: Literal["no image", "bad age", "bad sex", "duplicate id"]
    reason: str


class BadImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image file that cannot be used, and why."""

    id: str
    path: str
    reason: str


class Duplicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Images of the set, two or more, whose pixels are the same; whether their labels differ."""

    ids: tuple[str, ...]
    ages_differ: bool
    sexes_differ: bool


class Leak(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image of the set whose pixels are also in another folder, and its ids there."""

    id: str
    other_ids: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Images that a set has in common with another folder.

    Attributes:
        images: Images in the other folder.
        unreadable: Those of them that cannot be compared.
        leaks: Images with the same pixels.
        shared_ids: Ids of both whose pixels are not the same: perhaps one radiograph at two sizes.
    """

    folder: str
    images: int
    unreadable: tuple[BadImage, ...]
    leaks: tuple[Leak, ...]
    shared_ids: tuple[str, ...]


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a labelled folder.

    Attributes:
        rows: Rows of ``labels.csv``.
        images: Image files that a row names.
        usable: Images that can be trained on: a row without problems and pixels that can be read.
        male_share: Boys' share of the usable, 0..1; None of no images.
        ages: Ages of the usable by ``all``, ``female`` and ``male``; None of no images.
        ages_by_year: The usable by year of bone age, from 0 to the last that occurs.
        widths: Of all images that can be read, like ``heights``; None of no images.
        sizes: Every size of the images that can be read, the most common first.
        storage: How they are stored, the most common first.
        unreadable: Image files that cannot be used, blank ones aside.
        blank: Images whose pixels all have the same grey.
        spare: Image files whose id another file has already: a row cannot say which it means.
        unlabelled: Ids of image files without a row; they are not read.
        against: Images in common with other folders.
    """

    schema_version: int
    folder: str
    rows: int
    images: int
    usable: int
    females: int
    males: int
    male_share: float | None
    ages: dict[str, Ages | None]
    ages_by_year: tuple[YearCount, ...]
    widths: Side | None
    heights: Side | None
    sizes: tuple[SizeCount, ...]
    storage: tuple[StorageCount, ...]
    row_problems: tuple[RowProblem, ...]
    unreadable: tuple[BadImage, ...]
    blank: tuple[BadImage, ...]
    spare: tuple[BadImage, ...]
    unlabelled: tuple[str, ...]
    duplicates: tuple[Duplicate, ...]
    against: tuple[Comparison, ...]
