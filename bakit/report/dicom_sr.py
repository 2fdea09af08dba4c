"""The DICOM structured report of one prediction, by highdicom: template TID 1500."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import pydicom
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from bakit import __version__
from bakit.errors import ImageError
from bakit.image.dicom import read_study

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bakit.prediction import Prediction

_PRIVATE = "99BAKIT"
_BONE_AGE = CodedConcept("37362-1", "LN", "XR Bone age")
_LOWER = CodedConcept("lower", _PRIVATE, "Lower bound of the prediction interval")
_UPPER = CodedConcept("upper", _PRIVATE, "Upper bound of the prediction interval")
_SIDES = {"L": codes.SCT.Left, "R": codes.SCT.Right}
_MONTH = CodedConcept("mo", "UCUM", "month")


def tid1500(
    prediction: Prediction, age_months: float, remarks: Sequence[str], data: bytes, name: str
) -> bytes:
    """Return the bytes of the report.

    ``remarks`` are further parameters of the algorithm, ``data`` is the radiograph's DICOM file,
    ``name`` its name in errors.

    Raises:
        ImageError: If a UID of the radiograph is missing or not valid.
    """
    study = read_study(data, name)
    algorithm = AlgorithmIdentification(
        name="bakit",
        version=__version__,
        parameters=[
            f"checkpoint {prediction.checkpoint} {prediction.checkpoint_sha256}",
            f"bundle {prediction.bundle_sha256}",
            f"target {prediction.target} {prediction.precision} {prediction.provider}",
            f"sex {prediction.sex}",
            *remarks,
        ],
    )
    values = [(_BONE_AGE, age_months)]
    if prediction.interval_months is not None:
        values += zip((_LOWER, _UPPER), prediction.interval_months, strict=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks on the radiograph's names
            group = MeasurementsAndQualitativeEvaluations(
                tracking_identifier=TrackingIdentifier(generate_uid(), "bone age"),
                algorithm_id=algorithm,
                finding_sites=[FindingSite(codes.SCT.Hand, _SIDES.get(study["Laterality"]))],
                measurements=[Measurement(code, round(value, 2), _MONTH) for code, value in values],
                source_images=[
                    SourceImageForMeasurementGroup(study["SOPClassUID"], study["SOPInstanceUID"])
                ],
            )
            device = ObserverContext(
                CodedConcept("121007", "DCM", "Device"),
                DeviceObserverIdentifyingAttributes(generate_uid(), name="bakit"),
            )
            report = MeasurementReport(
                observation_context=ObservationContext(observer_device_context=device),
                procedure_reported=_BONE_AGE,
                imaging_measurements=[group],
            )
            source = _evidence(study)
            document = ComprehensiveSR(
                evidence=[source],
                content=report,
                series_instance_uid=generate_uid(),
                series_number=1,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="bakit",
                is_complete=True,
            )
            out = io.BytesIO()
            pydicom.dcmwrite(out, document, enforce_file_format=True)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = (
            f"{name}: no structured report can be made from its header; check it with bakit dicom"
        )
        raise ImageError(message) from error
    return out.getvalue()


def _evidence(study: Mapping[str, str]) -> Dataset:
    """Return the radiograph's identity in UTF-8; what its header lacks is empty (type 2)."""
    source = Dataset()
    for keyword, text in study.items():
        if keyword not in {"Laterality", "SpecificCharacterSet"}:
            setattr(source, keyword, text)
    source.SpecificCharacterSet = "ISO_IR 192"
    return source
