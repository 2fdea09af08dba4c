"""The fields of a DICOM header that bakit uses, and those that a report takes over."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from bakit.errors import ImageError

if TYPE_CHECKING:
    from bakit.image.elements import Elements

RADIOGRAPHS = ("CR", "DX", "DR", "RG")
"""Modalities of radiographs: computed, digital (and its older name), and scanned films."""

PICTURES = ("OT", "SC")
"""Modalities of pictures of unknown origin, such as secondary captures."""

DAYS_A_MONTH = 365.25 / 12
ADULT_MONTHS = 18 * 12.0
MAX_AGE_MONTHS = 110 * 12.0
"""Higher ages come from made-up dates in anonymised files."""

_DATES = ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate", "AcquisitionDateTime")
HEADER = (
    *_DATES, "AnatomicRegionSequence", "BodyPartExamined", "ImageLaterality", "Laterality",
    "Modality", "PatientAge", "PatientBirthDate", "PatientSex", "SpecificCharacterSet",
)  # fmt: skip
STUDY = (
    "AccessionNumber", "ImageLaterality", "Laterality", "PatientBirthDate", "PatientID",
    "PatientName", "PatientSex", "ReferringPhysicianName", "SOPClassUID", "SOPInstanceUID",
    "SeriesInstanceUID",
    "SpecificCharacterSet", "StudyDate", "StudyID", "StudyInstanceUID",
    "StudyTime",
)  # fmt: skip

_UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_UID = re.compile(r"(?=.{1,64}$)(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
_HANDS = re.compile(
    r"HAND|WRIST|CARP|BONE ?AGE|UPPER ?(EXT|LIMB)|UP_?EX|^(?!.*(LOW|LEG|INF|UNTER)).*EXTREM"
)


class DicomHeader(NamedTuple):
    """Header fields that bakit uses; none identifies a person.

    Attributes:
        sex: PatientSex as stored: ``M``, ``F``, ``O``, something else, or empty.
        laterality: ImageLaterality, else Laterality, its first letter: ``L``, ``R``, ``B``, or
            empty.
        age_months: Age on the day of the study, from the dates of birth and study, or PatientAge:
            the first that is possible, the higher one if one is an adult's. None if both are
            absent, or above ``MAX_AGE_MONTHS``.
        body_part: BodyPartExamined in capitals, else the first anatomic region; may be empty.
        modality: Modality.
    """

    sex: str
    laterality: str
    age_months: float | None
    body_part: str
    modality: str

    @property
    def doubts(self) -> tuple[str, ...]:
        """Reasons to review a prediction, as codes of ``bakit.quality.limits.REASONS``."""
        found = []
        if self.modality in PICTURES:
            found.append("not_a_radiograph")
        if self.body_part and not _HANDS.search(self.body_part):
            found.append("other_body_part")
        if self.laterality == "B":
            found.append("both_hands")
        return tuple(found)


def read_header(elements: Elements) -> DicomHeader:
    """Return the header fields from the elements ``HEADER``."""
    text = elements.text
    body_part = text("BodyPartExamined")
    if not body_part and (regions := elements.items("AnatomicRegionSequence")):
        body_part = regions[0].text("CodeMeaning")
    return DicomHeader(
        sex=text("PatientSex").upper(),
        laterality=_side(text("ImageLaterality"), text("Laterality")),
        age_months=_age_months(elements),
        body_part=body_part.upper(),
        modality=text("Modality").upper(),
    )


def _side(image: str, series: str) -> str:
    """Return ImageLaterality, else Laterality: its first letter, as a capital."""
    return (image or series)[:1].upper()


def read_study(elements: Elements) -> dict[str, str]:
    """Return what a report takes over from a radiograph, from the elements ``STUDY``.

    Returns:
        Texts in Unicode by keyword, ``Laterality`` from either field; empty if they are absent, not
        valid, or not readable in the file's character set: in a report, a wrong name is worse than
        none.

    Raises:
        ImageError: If a UID is missing or not valid.
    """
    found = {keyword: elements.name_of(keyword) for keyword in STUDY}
    for keyword in _UIDS:
        if not _UID.fullmatch(found[keyword]):
            problem = f"{keyword} is missing or not valid; a report needs it"
            message = f"{elements.name}: {problem}, send it again"
            raise ImageError(message)
    for keyword, form in _FORMS.items():
        if not re.fullmatch(form, found[keyword]):
            found[keyword] = ""
    found["Laterality"] = _side(found.pop("ImageLaterality"), found["Laterality"])
    return found


_FORMS = {
    "PatientBirthDate": r"\d{8}",
    "PatientSex": "[MFO]",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
}


def _age_months(elements: Elements) -> float | None:
    """Return the age on the day of the study; None if it is unknown or not possible."""
    ages = []
    dates = (_day(elements.text(key)) for key in _DATES)
    born, seen = _day(elements.text("PatientBirthDate")), next(filter(None, dates), None)
    if born is not None and seen is not None:
        ages.append((seen - born).days / DAYS_A_MONTH)
    match = re.fullmatch(r"(\d{1,5}) ?([DWMY])", elements.text("PatientAge").upper())
    if match is not None:
        unit = {"D": 1 / DAYS_A_MONTH, "W": 7 / DAYS_A_MONTH, "M": 1.0, "Y": 12.0}[match[2]]
        ages.append(int(match[1]) * unit)
    possible = [round(age, 2) for age in ages if 0 <= age <= MAX_AGE_MONTHS]
    if max(possible, default=0) >= ADULT_MONTHS:
        return max(possible)
    return possible[0] if possible else None


def _day(text: str) -> date | None:
    match = re.match(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})", text)
    if match is None:
        return None
    try:
        return date(*(int(part) for part in match.groups()))
    except ValueError:
        return None
