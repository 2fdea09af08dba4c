"""The prediction for one radiograph, with everything that an audit needs."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from bakit.errors import InputError
from bakit.image.box import Box
from bakit.quality.limits import Quality

if TYPE_CHECKING:
    from bakit.image.header import DicomHeader

Sex: TypeAlias = Literal["M", "F"]


class Prediction(msgspec.Struct, frozen=True):
    """The prediction for one radiograph.

    Attributes:
        age_months: Bone age in months; None for a rejected image without ``allow_rejected``.
        interval_months: Lower and upper bound of the true age at the level ``interval_level``
            (``bakit.model.intervals``); None without an age, or if the checkpoint has no intervals.
        box: The hand, in pixels of the stored image; the whole image if no hand was found.
        quality: Whether the prediction can be used.
        stages_ms: Time by stage in ms: decode, localize, preprocess, quality, regress, total.
        target: Name of the target.
        precision: Number format of the regressor.
        provider: Library and device that ran the regressor.
        bundle_sha256: Digest of the bundle.
        sex: ``M`` or ``F``, the input of the model.
        interval_level: Share of true ages inside such intervals; None without intervals.
        input_sha256: Digest of the pixels (``bakit.image.read.input_digest``).
        checkpoint: Name of the float checkpoint.
        checkpoint_sha256: Digest of the float checkpoint.
        mirrored: Whether the image was mirrored because its DICOM header declares a right hand.
        measures: Quality measures by name (``docs/quality.md``).
        chronological_months: Age on the day of the study, from a DICOM header; not an input of the
            model. None if unknown.
        difference_months: Bone age minus chronological age; None if either is missing.
        versions: Versions of bakit, Python and the libraries, by name.
        turned_degrees: Anticlockwise turn that made the hand upright: 0, 90, 180 or 270.
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
    turned_degrees: int = 0

    def to_json(self) -> bytes:
        """Return a JSON object in one line; ``prediction_schema`` describes it."""
        return msgspec.json.encode(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the same as a dictionary of strings, numbers, lists and dictionaries."""
        found: dict[str, Any] = msgspec.json.decode(self.to_json())
        return found


def prediction_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of ``Prediction.to_json``."""
    schema = msgspec.json.schema(Prediction)
    # msgspec before 0.23 keeps the indentation of docstrings.
    for definition in schema["$defs"].values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def read_sex(text: str, where: str = "") -> Sex:
    """Return the letter of a sex as people write it: ``f``, ``Female``, ``M``, ``boy``.

    ``where`` names the file and the line of the text in errors.

    Raises:
        InputError: If it is none of these.
    """
    word = str(text).strip().lower()
    for sex, words in _SEXES.items():
        if word in words:
            return sex
    message = f"sex {text!r} is not possible; use F or M, female or male"
    raise InputError(f"{where}: {message}" if where else message)


_SEXES: dict[Sex, tuple[str, ...]] = {
    "F": ("f", "female", "girl", "woman"),
    "M": ("m", "male", "boy", "man"),
}


def sex_of(given: str | None, header: DicomHeader | None) -> Sex:
    """Return the given sex, or that in the header.

    Raises:
        InputError: If both are missing, they differ, or the given one is not a sex.
    """
    sex = None if given is None else read_sex(given)
    stored: Sex | None = None
    if header is not None and header.sex in {"M", "F"}:
        stored = "M" if header.sex == "M" else "F"
    if sex is not None and stored not in {None, sex}:
        message = f"sex {sex} was given, but PatientSex is {stored} in the DICOM header; "
        message += "check both"
        raise InputError(message)
    sex = sex or stored
    if sex is None:
        why = "no sex is given"
        if header:
            stated = header.sex if header.sex in {"", "O"} else "not M, F or O"
            why = f"PatientSex is {stated!r} in the DICOM header"
        message = f"{why}; girls and boys mature at different ages: give M or F (--sex)"
        raise InputError(message)
    return sex


def is_male(sex: str) -> bool:
    """Return whether a sex, as ``read_sex`` takes it, is male.

    Raises:
        InputError: If it is not a sex.
    """
    return read_sex(sex) == "M"
