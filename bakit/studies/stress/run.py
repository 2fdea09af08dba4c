"""``bakit stress``: errors under perturbations that leave bone age unchanged."""

from __future__ import annotations

import math
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from bakit.bench.drift.compare import check_age
from bakit.bench.statistics import mean_interval
from bakit.figures import ALL, FEMALE, MALE, new_figure, save_figures
from bakit.image.read import decode
from bakit.studies.evaluate.document import Data, Model
from bakit.studies.evaluate.run import as_bundle, describe_model
from bakit.studies.evaluate.run_all import run_all
from bakit.studies.stress.perturb import perturbations
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.model.checkpoint import Checkpoint
    from bakit.prediction import Sex
    from bakit.runtime import Runtime
    from bakit.studies.evaluate.choose import Images
    from bakit.types import Floats, OnProgress

SCHEMA_VERSION = 2


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's errors under one perturbation.

    Attributes:
        kind: The kind of perturbation (``perturb.KINDS``); ``none`` for unchanged images.
        mae_rise_months: MAE minus that of the unchanged images.
        mae_rise_ci95_months: 95 % interval of the rise, paired by image.
        mean_abs_change_months: Mean absolute change of the predictions.
        p95_abs_change_months: 95th percentile of the absolute changes.
        over_12_months: Share of images with an error above 12 months, 0..1.
        over_24_months: Share of images with an error above 24 months, 0..1.
        reviewed: Share of images with quality ``review``, 0..1.
        rejected: Share of images with quality ``reject``, 0..1; they count in the errors.
    """

    kind: str
    name: str
    samples: int
    mae_months: float
    mae_rise_months: float
    mae_rise_ci95_months: tuple[float, float]
    mean_abs_change_months: float
    p95_abs_change_months: float
    over_12_months: float
    over_24_months: float
    reviewed: float
    rejected: float


class Stress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document of ``bakit stress``: errors on unchanged and on perturbed images."""

    schema_version: int
    model: Model
    data: Data
    unreadable: int
    untouched: Condition
    conditions: tuple[Condition, ...]

    def failures(
        self, max_mae_rise_months: float | None = None, max_over_24: float | None = None
    ) -> list[str]:
        """Return the exceeded limits: on the upper end of the MAE's rise, and on large errors."""
        found = []
        for item in self.conditions:
            upper, share = item.mae_rise_ci95_months[1], item.over_24_months
            if max_mae_rise_months is not None and not upper <= max_mae_rise_months:
                found.append(
                    f"{item.name}: MAE {item.mae_rise_months:+.2f} months, upper end of its 95 % "
                    f"interval {upper:+.2f}, limit {max_mae_rise_months:g}"
                )
            if max_over_24 is not None and not share <= max_over_24:
                found.append(
                    f"{item.name}: {share:.1%} of the images have an error above 24 months, "
                    f"limit {max_over_24:.1%}"
                )
        return found


class _Answers(NamedTuple):
    """Predictions for one image: unchanged, then under each perturbation."""

    ages_months: list[float]
    statuses: list[str]
    provider: str


def stress(
    model: Bundle | Checkpoint,
    images: Images,
    kinds: Sequence[str] = (),
    *,
    workers: int | None = None,
    on_progress: OnProgress = silent,
) -> Stress:
    """Measure a model's errors under perturbations of some kinds; all kinds by default.

    A checkpoint runs as a float32 ONNX bundle.

    Raises:
        VerificationError: If a predicted age is not a number.
        BakitError: As ``bakit.studies.evaluate.run_all``.
    """
    changes = perturbations(kinds)
    with as_bundle(model) as bundle:
        used, unused = run_all(
            bundle,
            images.samples,
            partial(_predict, kinds=tuple(kinds)),
            workers=workers,
            threads=1,
            on_progress=on_progress,
        )
    for sample, answers in used:
        for age in answers.ages_months:
            check_age(age, bundle, sample)
    true = np.array([sample.age_months for sample, _ in used])
    ages = np.array([answers.ages_months for _, answers in used]).T
    statuses = np.array([answers.statuses for _, answers in used]).T
    names = [("none", "untouched"), *((item.kind, item.name) for item in changes)]
    untouched, *conditions = (
        _condition(*name, true, ages[0], months, status)
        for name, months, status in zip(names, ages, statuses, strict=True)
    )
    return Stress(
        SCHEMA_VERSION,
        describe_model(model, bundle, used[0][1].provider),
        images.data,
        len(unused),
        untouched,
        tuple(conditions),
    )


def _predict(runtime: Runtime, sample: Sample, kinds: tuple[str, ...]) -> _Answers:
    """Predict an image and its perturbations; worker processes get the kinds, not functions."""
    grey = decode(sample.path)
    images = chain([grey], (change.apply(grey) for change in perturbations(kinds)))
    sex: Sex = "M" if sample.male else "F"
    predictions = [runtime.predict(image, sex, allow_rejected=True) for image in images]
    ages = [item.age_months for item in predictions]
    return _Answers(
        [math.nan if age is None else age for age in ages],  # check_age rejects NaN
        [item.quality.status for item in predictions],
        predictions[0].provider,
    )


def _condition(
    kind: str,
    name: str,
    true: Floats,
    before: Floats,
    after: Floats,
    statuses: npt.NDArray[np.str_],
) -> Condition:
    errors = np.abs(after - true)
    rises = errors - np.abs(before - true)
    changes = np.abs(after - before)
    return Condition(
        kind=kind,
        name=name,
        samples=len(true),
        mae_months=float(errors.mean()),
        mae_rise_months=float(rises.mean()),
        mae_rise_ci95_months=mean_interval(rises),
        mean_abs_change_months=float(changes.mean()),
        p95_abs_change_months=float(np.percentile(changes, 95)),
        over_12_months=float((errors > 12).mean()),
        over_24_months=float((errors > 24).mean()),
        reviewed=float((statuses == "review").mean()),
        rejected=float((statuses == "reject").mean()),
    )


def draw_stress(result: Stress, out: Path) -> Path:
    """Draw ``stress.png`` into a folder and return the file.

    Raises:
        MissingBackendError: If matplotlib is not installed.
    """
    return save_figures({"stress.png": lambda: stress_figure(result)}, out)[0]


def stress_figure(result: Stress) -> Figure:
    """Draw the MAE under each perturbation with the interval of its rise, and large errors."""
    conditions = (result.untouched, *result.conditions)
    figure = new_figure(8.4, 1.3 + 0.2 * len(conditions))
    left, right = figure.subplots(1, 2, sharey=True)
    rows, base = list(range(len(conditions))), result.untouched.mae_months
    rises = [(item.mae_months - base, item.mae_rise_ci95_months) for item in conditions]
    around = [[rise - low for rise, (low, _) in rises], [high - rise for rise, (_, high) in rises]]
    left.errorbar(
        [item.mae_months for item in conditions], rows, xerr=around, fmt="o", ms=3, color=MALE
    )
    left.axvline(base, color=ALL, linewidth=0.8)
    left.set_xlabel("MAE [months], 95 % interval of its rise")
    for share, label, colour in (
        ("over_12_months", "error above 12 months", MALE),
        ("over_24_months", "error above 24 months", FEMALE),
    ):
        right.plot([100 * getattr(c, share) for c in conditions], rows, "o", ms=3, color=colour,
                   label=label)  # fmt: skip
    right.set_xlabel("images [%]")
    right.legend(frameon=False)
    left.set_yticks(rows, [item.name for item in conditions], fontsize=7)
    left.set_ylim(len(rows) - 0.5, -0.5)
    for axes in (left, right):
        axes.set_xlim(left=0)
    return figure
