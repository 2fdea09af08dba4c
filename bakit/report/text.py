"""Ages as text: years and months, intervals, and SDS from a reference table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.data.tables import read_csv
from bakit.errors import InputError
from bakit.prediction import read_sex
from bakit.quality.limits import REASONS

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.prediction import Prediction, Sex
    from bakit.quality.limits import Quality

RETAKE = "use a sharp image of one whole hand, fingers up"
REMEDIES = {
    "too_small": "use an image with more pixels",
    "low_contrast": "export the image again with its full range of grey values",
    "saturated": "export the image again with its full range of grey values",
    "two_hands": "crop the image to one hand",
    "both_hands": "crop the image to one hand",
    "hand_cut_off": "use an image with the whole hand and the wrist",
    "turned": "rotate the image until the fingers point up",
    "methods_disagree": "check the box with bakit localize --overlay",
    "inverted": "use the original DICOM file",
    "not_a_radiograph": "use the original DICOM file",
    "other_body_part": "check that the image is of a hand",
    "outside_trained_ages": "have a person read the age; the model knows none like it",
    "patient_age": "check the dates in the DICOM header",
}
"""What to do about an image, by reason code, causes of other reasons first.

``RETAKE`` is for the others if the image is rejected.
"""

COLUMNS = ("sex", "age_months", "mean", "sd")
MAX_TABLE_BYTES = 2**20


def years_months(months: float) -> str:
    """Return an age, rounded to whole months, as text: 124.3 months is ``10 y 4 m``."""
    sign = "-" if round(months) < 0 else ""
    years, rest = divmod(abs(round(months)), 12)
    return f"{sign}{years} y {rest} m"


def age_text(prediction: Prediction) -> str:
    """Return the age of an accepted or reviewed image, its interval, and the chronological age."""
    assert prediction.age_months is not None
    line = f"{years_months(prediction.age_months)} ({prediction.age_months:.1f} months)"
    if "skeletally_mature" in prediction.quality.reasons:
        line = f"skeletally mature, or nearly (read as {line})"
    elif "below_trained_ages" in prediction.quality.reasons:
        line = f"as young as the youngest training images (read as {line})"
    if prediction.interval_months is not None and prediction.interval_level is not None:
        lower, upper = (years_months(bound) for bound in prediction.interval_months)
        line += f", {100 * prediction.interval_level:g} % interval {lower} to {upper}"
    if prediction.chronological_months is not None and prediction.difference_months is not None:
        line += (
            f"; {prediction.difference_months:+.1f} months to the chronological age of "
            f"{years_months(prediction.chronological_months)}"
        )
    if prediction.turned_degrees:
        line += f"; the hand was turned by {prediction.turned_degrees} degrees to be upright"
    return line


def verdict_text(quality: Quality) -> str:
    """Return why an image is rejected or needs a review, and what to do, in one line.

    The reason codes, which machines read, are first.
    """
    codes = ", ".join(quality.reasons)
    why = "; ".join(REASONS[code] for code in quality.reasons if code in REASONS)
    remedy = next((text for code, text in REMEDIES.items() if code in quality.reasons), "")
    if quality.status == "reject":
        todo = remedy or RETAKE
    else:
        todo = "check the age by eye" + f", or {remedy}" * bool(remedy)
    return f"{quality.status}: {codes} ({why}); {todo}"


class Reference(NamedTuple):
    """Bone ages of healthy children, the reference of an SDS.

    Attributes:
        rows: By sex, ``(age_months, mean, sd)`` with rising ages.
    """

    rows: dict[Sex, list[tuple[float, float, float]]]

    def sds(self, bone_age_months: float, chronological_months: float, sex: Sex) -> float | None:
        """Return (bone age - mean) / SD at a chronological age; None outside of the table.

        Between two rows, mean and SD are interpolated.
        """
        ages, means, sds = np.transpose(self.rows[sex])
        if not ages[0] <= chronological_months <= ages[-1]:
            return None
        mean, sd = (np.interp(chronological_months, ages, row) for row in (means, sds))
        return float((bone_age_months - mean) / sd)

    def sds_text(self, prediction: Prediction) -> str:
        """Return the SDS of a prediction, as text to append to its age; empty without an age.

        Raises:
            InputError: If the chronological age is not known.
        """
        if prediction.age_months is None:
            return ""
        if prediction.chronological_months is None:
            message = "--reference needs a DICOM file with the dates of birth and study"
            raise InputError(message)
        found = self.sds(prediction.age_months, prediction.chronological_months, prediction.sex)
        return "; no SDS: age outside the table" if found is None else f"; SDS {found:+.1f}"


def read_reference(path: Path) -> Reference:
    """Read a table with the columns ``sex`` (M, F), ``age_months``, ``mean`` and ``sd`` (months).

    Raises:
        InputError: If it cannot be read, a column is missing, or a value is not possible.
    """
    rows: dict[Sex, list[tuple[float, float, float]]] = {"F": [], "M": []}
    names, table = read_csv(path, dict.fromkeys(COLUMNS, ()), COLUMNS[1:], COLUMNS)
    if missing := [name for name in COLUMNS if name not in names]:
        message = f"{path}: column {missing[0]!r} is missing; use {','.join(COLUMNS)}"
        raise InputError(message)
    for number, fields in table:
        try:
            age, mean, sd = (float(fields[name]) for name in COLUMNS[1:])
        except ValueError:
            age = mean = sd = math.nan
        if not all(map(math.isfinite, (age, mean, sd))) or sd <= 0:
            message = f"{path}:{number}: use numbers, and an sd above 0"
            raise InputError(message)
        rows[read_sex(fields["sex"], f"{path}:{number}")].append((age, mean, sd))
    for sex, found in rows.items():
        found.sort()
        if len(found) < 2 or len({age for age, _, _ in found}) < len(found):
            message = f"{path}: needs two or more rows for {sex}, each with another age"
            raise InputError(message)
    return Reference(rows)
