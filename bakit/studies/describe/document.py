"""The document of ``bakit describe``."""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA_VERSION = 1


class Ages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Statistics of bone ages in months, of at least one image; the SD has ``ddof=1``."""

    images: int
    mean: float
    sd: float
    median: float
    min: float
    max: float


class YearCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Number of usable images with a bone age from ``year`` to below ``year + 1`` years."""

    year: int
    female: int
    male: int


class Side(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Widths or heights of images, in pixels."""

    min: int
    median: float
    max: int


class SizeCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Number of images of one size, in pixels."""

    width: int
    height: int
    images: int


class StorageCount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Number of images with one pixel format (``run.Storage``)."""

    format: str
    bits: int
    channels: int
    images: int


class RowProblem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An error in a row of ``labels.csv``; the header is row 1."""

    row: int
    id: str
    kind: Literal["no image", "bad age", "bad sex", "duplicate id"]
    reason: str


class BadImage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An unusable image file and the reason."""

    id: str
    path: str
    reason: str


class Duplicate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two or more images of the dataset with equal pixels, and whether their labels differ."""

    ids: tuple[str, ...]
    ages_differ: bool
    sexes_differ: bool


class Leak(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image of the dataset that is also in another folder, and its ids there."""

    id: str
    other_ids: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Overlap between the dataset and another folder.

    Attributes:
        images: Images in the other folder.
        unreadable: Those of them that cannot be compared.
        leaks: Images with equal pixels.
        shared_ids: Common ids with different pixels: perhaps one radiograph at two sizes.
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
        images: Image files named by a row.
        usable: Images that can be used for training: readable, with a valid row.
        male_share: Share of boys among the usable images, 0..1; None without images.
        ages: Ages of usable images by ``all``, ``female`` and ``male``; None without images.
        ages_by_year: Usable images by year of bone age, from 0 to the highest.
        widths: Widths of all readable images, like ``heights``; None without images.
        sizes: Sizes of the readable images, the most common first.
        storage: Pixel formats of the readable images, the most common first.
        unreadable: Image files that cannot be used, except blank ones.
        blank: Images with a single grey value.
        spare: Image files with the id of another file.
        unlabelled: Ids of image files without a row; they are not read.
        against: Overlap with other folders.
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
