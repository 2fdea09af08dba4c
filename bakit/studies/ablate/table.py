"""The paper's Table 2 as data, and the document of ``bakit ablate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from bakit.model.recipes import Recipe
from bakit.settings import LocalizerSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA_VERSION = 1

CITATION = (
    "S. Li et al., A deep learning-based computer-aided diagnosis method of X-ray images for bone "
    "age assessment, 2021, Table 2"
)


class PaperRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row of Table 2, with the paper's MAE on its two datasets.

    Attributes:
        name: Our name of the row.
        preprocess: Whether the hand is cropped and equalized.
        pretrained: Whether the backbone starts from ImageNet weights.
        image_size: Side of the square input, in pixels.
        rsna_mae_months: MAE on the RSNA dataset of 12,611 radiographs.
        additional_mae_months: MAE on the private dataset of 1,709 radiographs.
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
    """Return rows of Table 2 in its order; all when ``names`` is None."""
    wanted = None if names is None else set(names)
    return [row for row in TABLE_2 if wanted is None or row.name in wanted]


def full_row(row: PaperRow) -> PaperRow:
    """Return the full row of the same image size."""
    return next(r for r in TABLE_2 if r.kind == "full" and r.image_size == row.image_size)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Our settings for a row.

    Attributes:
        pretrained: Initial weights of the backbone: ``imagenet``, ``none`` or a file.
        image_size: Side of the square input, in pixels.
    """

    sex: bool
    localize: bool
    equalize: bool
    pretrained: str
    image_size: int


class Score(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """MAE on one split, with its 95 % interval if it was computed."""

    samples: int
    mae_months: float
    ci95_months: tuple[float, float] | None = None


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Effect of the ablation: this row's error minus that of its full row.

    Attributes:
        full: Name of the full row.
        paper_months: Change of the paper's MAE on the RSNA dataset.
        months: Change of the MAE on our test images; None if one result is missing, or if both
            rows share one training.
        ci95_months: Its 95 % interval: paired by image, without the variation
            between seeds.
    """

    full: str
    paper_months: float
    months: float | None = None
    ci95_months: tuple[float, float] | None = None


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of a trained model.

    Attributes:
        validation: On the images that selected the best epoch; slightly optimistic.
        best_epoch: The stored epoch, from 1.
        seconds: Duration of the epochs, without image preparation.
    """

    validation: Score
    test: Score
    epochs: int
    best_epoch: int
    seconds: float


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the paper and our result.

    Attributes:
        run: The training run; rows with the same settings share one.
        reason: Reason for a missing result.
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
        available: Images of the training split, before ``--limit``.
        left_out: Number of excluded ids.
        ids_sha256: Digest of the used ids of each split.
    """

    folder: str
    train: int
    available: int
    validation: int
    test: int
    left_out: int
    ids_sha256: dict[str, str]


class Ablation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows of the paper's Table 2, trained with one split and one seed.

    Attributes:
        paper: Citation of the paper.
        recipe: Hyperparameters; ``pretrained`` holds for the pretrained rows.
        localizer: Settings of the localizer, for the rows with pre-processing.
        margin: Growth of its box on each side, as a share of the side.
        head_layers: Hidden layers of the head.
        rows: In the order of the table.
    """

    schema_version: int
    paper: str
    data: Data
    recipe: Recipe
    split_seed: int
    seed: int
    localizer: LocalizerSettings
    margin: float
    head_layers: int
    rows: tuple[Row, ...]
