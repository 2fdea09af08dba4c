"""A prediction as a FHIR Observation, or written with a DICOM structured report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from bakit import __version__
from bakit.errors import InputError, MissingBackendError
from bakit.files import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.prediction import Prediction

LOINC = "37362-1"
LOINC_MEANING = "XR Bone age"
METHOD = "bakit, trained on the labels of the RSNA Pediatric Bone Age Challenge 2017"


def write_reports(
    prediction: Prediction, image: Path, *, sr: Path | None = None, fhir: Path | None = None
) -> None:
    """Write the requested reports, all or none.

    Args:
        prediction: A prediction with an age.
        image: The radiograph.
        sr: File of a DICOM SR.
        fhir: File of a FHIR Observation.

    Raises:
        InputError: If there is no age, or ``sr`` is given and the image is not a DICOM file.
        MissingBackendError: If ``sr`` is given and highdicom is not installed.
    """
    documents = {}
    if sr is not None:
        documents[sr] = structured_report(prediction, image.read_bytes(), str(image))
    if fhir is not None:
        documents[fhir] = msgspec.json.format(
            msgspec.json.encode(observation(prediction)), indent=2
        )
    for path, data in documents.items():
        write_file(path, data)


def observation(prediction: Prediction) -> dict[str, Any]:
    """Return a FHIR R4 Observation, ``preliminary``: not confirmed by a person.

    It names no patient: the sender adds ``subject``.

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
    if data[128:132] != b"DICM":
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
