"""A prediction as a FHIR Observation, or written with a DICOM structured report."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from bakit import __version__
from bakit.errors import InputError, MissingBackendError
from bakit.files import check_outputs, write_file
from bakit.image.bounds import is_dicom
from bakit.image.read import read_source, study_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bakit.prediction import Prediction

LOINC = "37362-1"
LOINC_MEANING = "XR Bone age"
_SITES = {
    "": ("85562004", "Hand structure"),
    "L": ("85151006", "Structure of left hand"),
    "R": ("78791008", "Structure of right hand"),
}
_NO_STUDY: Mapping[str, str] = MappingProxyType({})
METHOD = "bakit, trained on the labels of the RSNA Pediatric Bone Age Challenge 2017"


def write_reports(
    prediction: Prediction, image: Path, *, sr: Path | None = None, fhir: Path | None = None
) -> None:
    """Write the requested reports, all or none.

    The prediction has an age.

    Raises:
        InputError: If there is no age, ``sr`` is given and the image is not a DICOM file, or both
            reports are one file.
        ImageError: If a UID of a DICOM image is missing or not valid.
        MissingBackendError: If ``sr`` is given and highdicom is not installed.
        OSError: If a file cannot be written; then none is.
    """
    check_outputs(sr, fhir, inputs=[image])
    data = read_source(image)
    documents = {}
    if sr is not None:
        documents[sr] = structured_report(prediction, data, str(image))
    if fhir is not None:
        study = study_of(data, str(image)) if is_dicom(data) else {}
        found = msgspec.json.encode(observation(prediction, study))
        documents[fhir] = msgspec.json.format(found, indent=2)
    for path, content in documents.items():
        write_file(path, content)


def observation(prediction: Prediction, study: Mapping[str, str] = _NO_STUDY) -> dict[str, Any]:
    """Return a FHIR R4 Observation, ``preliminary``: not confirmed by a person.

    It names no patient: the sender adds ``subject``.

    Args:
        prediction: A prediction with an age.
        study: The radiograph's study (``bakit.image.header.read_study``), for the date, the side
            and the identifiers; nothing is known of it when empty.

    Raises:
        InputError: If there is no age.
    """
    age = _age(prediction)
    unit = {"unit": "months", "system": "http://unitsofmeasure.org", "code": "mo"}
    document: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "preliminary",
        "code": {
            "coding": [{"system": "http://loinc.org", "code": LOINC, "display": LOINC_MEANING}]
        },
        "valueQuantity": {"value": round(age, 1)} | unit,
        "method": {"text": METHOD},
        "device": {"display": f"bakit {__version__}, bundle {prediction.bundle_sha256}"},
        "note": [{"text": text} for text in _remarks(prediction)],
    }
    code, display = _SITES.get(study.get("Laterality", ""), _SITES[""])
    document["bodySite"] = {
        "coding": [{"system": "http://snomed.info/sct", "code": code, "display": display}]
    }
    if day := study.get("StudyDate"):
        document["effectiveDateTime"] = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    if uid := study.get("StudyInstanceUID"):
        identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}
        document["derivedFrom"] = [{"type": "ImagingStudy", "identifier": identifier}]
    if accession := study.get("AccessionNumber"):
        kind: Any = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
        named = {"type": {"coding": [kind]}, "value": accession}
        document["basedOn"] = [{"type": "ServiceRequest", "identifier": named}]
    if prediction.interval_months is not None and prediction.interval_level is not None:
        low, high = prediction.interval_months
        document["component"] = [
            {
                "code": {"text": f"{100 * prediction.interval_level:g} % prediction interval"},
                "valueRange": {
                    "low": {"value": round(low, 1)} | unit,
                    "high": {"value": round(high, 1)} | unit,
                },
            }
        ]
    return document


def structured_report(prediction: Prediction, data: bytes, name: str) -> bytes:
    """Return the bytes of a DICOM SR of template TID 1500.

    It belongs to the radiograph's study and patient, and names the algorithm.

    ``data`` is the radiograph's DICOM file, ``name`` its name in errors.

    Raises:
        InputError: If there is no age, or the image is not a DICOM file.
        MissingBackendError: If highdicom is not installed.
    """
    age = _age(prediction)
    if not is_dicom(data):
        message = f"{name}: not a DICOM file; a structured report needs its study"
        raise InputError(message)
    try:
        from bakit.report.dicom_sr import tid1500  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("bakit"):
            raise
        need = "a DICOM structured report"
        raise MissingBackendError(need, "dicom") from error
    return tid1500(prediction, age, _remarks(prediction), data, name)


def _age(prediction: Prediction) -> float:
    if prediction.age_months is None:
        message = "a rejected image has no age to report; use allow_rejected"
        raise InputError(message)
    return prediction.age_months


def _remarks(prediction: Prediction) -> list[str]:
    """Return remarks for the reader, one sentence each."""
    remarks = ["Not a medical device: not for diagnosis or treatment."]
    remarks.append(
        f"Quality: {prediction.quality.status}"
        + (f" ({', '.join(prediction.quality.reasons)})." if prediction.quality.reasons else ".")
    )
    remarks.append(f"Pixels (SHA-256): {prediction.input_sha256}.")
    return remarks
