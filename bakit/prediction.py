"""The answer for one radiograph, with all that an auditor may ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from bakit.errors import InputError
from bakit.image.box import Box
from bakit.quality.limits import Quality

if TYPE_CHECKING:
    from bakit.image.dicom import DicomHeader

Sex: TypeAlias = Literal["M", "F"]


class Prediction(msgspec.Struct, frozen=True):
    """What the models say of one radiograph.

    Attributes:
        age_months: Bone age; None if the image was rejected and no number was asked for all the
            same.
        interval_months: Lower and upper bound of the true age at the level ``interval_level``
            (``bakit.model.intervals``); None where the checkpoint has none or there is no age.
        box: The hand, in pixels of the image as it is stored; the whole image if none was found.
        quality: Whether it can be used as it is.
        stages_ms: Time by stage: decode, localize, preprocess, quality, regress, total.
        target: Name of the target that ran.
        precision: Number format of the regressor.
        provider: What ran it on this machine.
        bundle_sha256: Digest of the bundle.
        sex: ``M`` or ``F``, as it was used.
        interval_level: Share of the true ages that such intervals hold; None without one.
        input_sha256: Digest of the pixels (``bakit.image.read.input_digest``), whatever the file.
        checkpoint: Name of the float checkpoint.
        checkpoint_sha256: Digest of the float checkpoint.
        mirrored: Whether the image was mirrored, since its DICOM header says that it is a right
            hand.
        measures: What the quality rests on, by name (``docs/quality.md``).
        chronological_months: Age on the day of the study, from a DICOM header; never an input of
            the model. None where it is not known.
        difference_months: Bone age minus chronological age; None without both.
        versions: Versions of bakit, Python and the libraries that computed it, by name.
    """

    age_months: float | None
    interval_months: tuple[float, float] | None
    box: Box
    quality: Quality
    stages_ms: dict[str, float]
    target: str
    precision: str
    provider: str
    bundle_sha256: str
    sex: Sex
    interval_level: float | None
    input_sha256: str
    checkpoint: str
    checkpoint_sha256: str
    mirrored: bool
    measures: dict[str, float]
    chronological_months: float | None
    difference_months: float | None
    versions: dict[str, str]

    def to_json(self) -> bytes:
        """Return one JSON object in a line, as ``prediction_schema`` describes it."""
        return msgspec.json.encode(self)


def prediction_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``Prediction.to_json``."""
    schema = msgspec.json.schema(Prediction)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def sex_of(given: Sex | None, header: DicomHeader | None) -> Sex:
    """Return the sex to use: what was given, else what the header says.

    Raises:
        InputError: If there is none, or the two differ.
    """
    said = header.sex if header is not None else ""
    if given is None:
        if said == "M":
            return "M"
        if said == "F":
            return "F"
        why = f"PatientSex is {said!r} in the DICOM header" if header else "no sex is given"
        message = f"{why}; bone age is read against it: give M or F (--sex)"
        raise InputError(message)
    if said in {"M", "F"} and said != given:
        message = f"sex {given} was given, but PatientSex is {said} in the DICOM header; check both"
        raise InputError(message)
    return given


def is_male(sex: str) -> bool:
    """Return whether a sex letter means male.

    Raises:
        InputError: If it is neither ``M`` nor ``F``.
    """
    if sex not in {"M", "F"}:
        message = f"sex {sex!r} is not possible; use M or F"
        raise InputError(message)
    return sex == "M"
