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
MAX_AGE_MONTHS = 110 * 12.0
"""Higher ages come from made-up dates in anonymised files."""

HEADER = (
    "AcquisitionDate", "AnatomicRegionSequence", "BodyPartExamined", "ContentDate",
    "ImageLaterality", "Laterality", "Modality", "PatientAge", "PatientBirthDate", "PatientSex",
    "SeriesDate", "SpecificCharacterSet", "StudyDate",
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
_HANDS = re.compile(r"HAND|WRIST|CARP|BONE ?AGE|UPPER|^(?!.*(LOW|LEG)).*EXTREM")


class DicomHeader(NamedTuple):
    """Header fields that bakit uses; none identifies a person.

    Attributes:
        sex: PatientSex as stored: ``M``, ``F``, ``O``, something else, or empty.
        laterality: ImageLaterality, else Laterality: ``L``, ``R``, ``B``, or empty.
        age_months: Age on the day of the study, from the dates of birth and study, else from
            PatientAge; None if there is neither, or it is above ``MAX_AGE_MONTHS``.
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
        laterality=(text("ImageLaterality") or text("Laterality")).upper(),
        age_months=_age_months(elements),
        body_part=body_part.upper(),
        modality=text("Modality").upper(),
    )


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
    found["Laterality"] = found.pop("ImageLaterality") or found["Laterality"]
    return found


_FORMS = {
    "PatientBirthDate": r"\d{8}",
    "PatientSex": "[MFO]",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
}


def _age_months(elements: Elements) -> float | None:
    """Return the age on the day of the study; None if it is unknown or not possible."""
    dates = (
        _day(elements.text(key))
        for key in ("StudyDate", "AcquisitionDate", "SeriesDate", "ContentDate")
    )
    born, seen = _day(elements.text("PatientBirthDate")), next(filter(None, dates), None)
    if born is not None and seen is not None:
        months = (seen - born).days / DAYS_A_MONTH
        return round(months, 2) if 0 <= months <= MAX_AGE_MONTHS else None
    match = re.fullmatch(r"(\d{1,3})([DWMY])", elements.text("PatientAge").upper())
    if match is None:
        return None
    unit = {"D": 1 / DAYS_A_MONTH, "W": 7 / DAYS_A_MONTH, "M": 1.0, "Y": 12.0}[match[2]]
    months = int(match[1]) * unit
    return round(months, 2) if months <= MAX_AGE_MONTHS else None


def _day(text: str) -> date | None:
    match = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})", text)
    if match is None:
        return None
    try:
        return date(*(int(part) for part in match.groups()))
    except ValueError:
        return None
