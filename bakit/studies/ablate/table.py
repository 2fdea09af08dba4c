"""The paper's Table 2 as data, and the document that ``bakit ablate`` gives beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from bakit.errors import InputError
from bakit.recipes import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA_VERSION = 1

CITATION = (
    "S. Li et al., A deep learning-based computer-aided diagnosis method of X-ray images for bone "
    "age assessment, 2021, Table 2"
)


class PaperRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One condition of Table 2, with what the paper reports for each of its two data sets.

    Attributes:
        name: What the row is called here; the paper numbers none.
        sex: "Gender": whether the sex is an input.
        preprocess: "Pre-process": whether the hand is cropped out and equalized, or the original
            image is used.
        pretrained: "Pre-trained": whether the backbone starts from ImageNet weights.
        image_size: Side of the square input, in pixels.
        rsna_mae_months: MAE on the RSNA set of 12,611 radiographs.
        additional_mae_months: MAE on the additional set, private, of 1,709 radiographs.
    """

    name: str
    sex: bool
    preprocess: bool
    pretrained: bool
    image_size: int
    rsna_mae_months: float
    additional_mae_months: float

    @property
    def kind(self) -> str:
        """The name without the size."""
        return self.name.rpartition("-")[0]


TABLE_2 = (
    PaperRow("full-224", True, True, True, 224, 6.8, 5.7),
    PaperRow("full-500", True, True, True, 500, 6.5, 5.6),
    PaperRow("full-700", True, True, True, 700, 6.2, 5.1),
    PaperRow("no-sex-700", False, True, True, 700, 8.5, 6.0),
    PaperRow("no-preprocess-700", True, False, True, 700, 7.5, 6.2),
    PaperRow("no-pretrain-700", True, True, False, 700, 7.4, 5.9),
)
"""In the paper's order."""


def find_rows(names: Iterable[str] | None = None) -> list[PaperRow]:
    """Return rows of Table 2, in its order; all of them when no names are given.

    Raises:
        InputError: If there is no such row.
    """
    if names is None:
        return list(TABLE_2)
    wanted = set(names)
    known = [row.name for row in TABLE_2]
    unknown = sorted(wanted.difference(known))
    if unknown or not wanted:
        name = unknown[0] if unknown else ""
        message = f"no row {name!r} in the paper's Table 2; use some of {', '.join(known)}"
        raise InputError(message)
    return [row for row in TABLE_2 if row.name in wanted]


def full_row(row: PaperRow) -> PaperRow:
    """Return the row of the same image size with nothing left out."""
    return next(r for r in TABLE_2 if r.kind == "full" and r.image_size == row.image_size)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands for a row here.

    Attributes:
        sex: Whether the sex is an input.
        localize: Whether the hand is cropped out.
        equalize: Whether the histogram is equalized.
        pretrained: What the backbone starts from: ``imagenet``, ``none`` or a file.
        image_size: Side of the square input, in pixels.
    """

    sex: bool
    localize: bool
    equalize: bool
    pretrained: str
    image_size: int


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Errors on one part of the data.

    Attributes:
        samples: Images.
        mae_months: Mean absolute error.
        ci95_months: Its 95 % interval: bootstrap over the images, too narrow below some 30; None
            where it was not computed.
    """

    samples: int
    mae_months: float
    ci95_months: tuple[float, float] | None = None


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What leaving something out does to the error: this row's minus that of its full row.

    Attributes:
        full: Name of the full row.
        paper_months: Change of the paper's MAE on the RSNA set.
        months: Change of the MAE on our test images; None while one of the two is missing, or
            where one training stands for both.
        ci95_months: Its 95 % interval: paired bootstrap over the images. One that holds 0 says
            that these images are too few to tell. It knows nothing of other seeds.
    """

    full: str
    paper_months: float
    months: float | None = None
    ci95_months: tuple[float, float] | None = None


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a trained model scored.

    Attributes:
        validation: On the images that chose the best epoch: a little too good.
        test: On the images that were looked at once.
        epochs: Epochs that were trained.
        best_epoch: The one that was kept, from 1.
        seconds: Time of the epochs, without the preparation of images.
    """

    validation: Score
    test: Score
    epochs: int
    best_epoch: int
    seconds: float


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the paper beside ours.

    Attributes:
        name: Of the row.
        paper: The paper's.
        settings: Ours.
        run: The training that stands for it, of several rows where their settings are the same.
        status: Whether there is a result.
        reason: Why there is none.
        measured: The result.
        change: The comparison with the full row; None for a full row.
    """

    name: str
    paper: PaperRow
    settings: Settings
    run: str
    status: Literal["run", "not run"]
    reason: str | None = None
    measured: Measured | None = None
    change: Change | None = None


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The labelled images, the same for all rows.

    Attributes:
        folder: Name of the folder.
        train: Images that models were trained on.
        available: Images of the whole training part.
        validation: Images that chose the best epoch.
        test: Images for the final figures.
        left_out: Ids that are in no part.
        ids_sha256: Digest of the ids of each part, as used.
    """

    folder: str
    train: int
    available: int
    validation: int
    test: int
    left_out: int
    ids_sha256: dict[str, str]


class Ablation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of the paper's Table 2, trained again under one split and one seed.

    Attributes:
        schema_version: Version of this document.
        paper: Where the paper's figures are from.
        data: What was trained on.
        recipe: Numbers of the training; ``pretrained`` is what the pretrained rows start from.
        split_seed: Seed of the 7:2:1 split.
        seed: Seed of the training.
        rows: In the order of the table.
    """

    schema_version: int
    paper: str
    data: Data
    recipe: Recipe
    split_seed: int
    seed: int
    rows: tuple[Row, ...]
