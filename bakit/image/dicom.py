"""DICOM radiographs: pixels as grey values, and the header fields that bakit uses.

The order is that of PS3.3 C.11 and C.7.6.3.1.2: modality LUT, VOI LUT or window, inversion of
MONOCHROME1.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pydicom
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from bakit.errors import BakitError, ImageError, MissingBackendError
from bakit.image.bounds import JPEG, MAX_PIXELS, jpeg_size

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from bakit.types import Grey


MODALITIES = ("CR", "DX", "DR", "RG")
"""Radiographs: computed, digital (and its older name), and scanned films."""

DAYS_A_MONTH = 365.25 / 12
MAX_AGE_MONTHS = 300.0
"""Higher ages come from made-up dates in anonymised files."""

_MAX_BYTES = 8 * MAX_PIXELS


class DicomHeader(NamedTuple):
    """Header fields that bakit uses; none identifies a person.

    Attributes:
        sex: PatientSex as stored: ``M``, ``F``, ``O``, something else, or empty.
        laterality: ImageLaterality, else Laterality: ``L``, ``R``, ``B``, or empty.
        chronological_months: Age on the day of the study, from study and birth date; None if a
            date is missing or not a child's.
    """

    sex: str
    laterality: str
    chronological_months: float | None


def read_dicom(data: bytes, name: str) -> tuple[Grey, DicomHeader]:
    """Return a radiograph's grey values and header fields.

    Args:
        data: A DICOM file.
        name: Its name in errors.

    Returns:
        ``(H, W)`` float32 in 0..1, bones bright, not mirrored.

    Raises:
        ImageError: If it is damaged, not a radiograph, in colour, of several frames, raw detector
            data, or of more than ``MAX_PIXELS`` pixels.
        MissingBackendError: If its decompressor is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of headers that are usable
        dataset = read_dataset(data, name)
        try:
            _check_kind(dataset, name)
            return _grey(dataset, name), _header(dataset)
        except BakitError:
            raise
        except Exception as error:  # values are parsed late, and raise any exception
            raise _unreadable(name, error) from error


def read_dataset(data: bytes, name: str) -> Dataset:
    """Return a file's dataset without decoding pixels.

    Raises:
        ImageError: If it cannot be read.
    """
    try:
        _check_deflated(data, name)
        dataset = pydicom.dcmread(io.BytesIO(data))
        syntax = dataset.file_meta.get("TransferSyntaxUID")
    except ImageError:
        raise
    except Exception as error:  # pydicom raises whatever a damaged value leads to
        raise _unreadable(name, error) from error
    if not isinstance(syntax, UID) or not syntax.is_transfer_syntax:
        message = f"{name}: a DICOM file without a transfer syntax in its header; send it again"
        raise ImageError(message)
    return dataset


def _unreadable(name: str, error: Exception) -> ImageError:
    return ImageError(f"{name}: a DICOM file that cannot be read ({_line(error)})")


def _check_deflated(data: bytes, name: str) -> None:
    """Reject a few deflated bytes that would fill the memory."""
    if DeflatedExplicitVRLittleEndian.encode() not in data[132:4096]:
        return
    if data[132:138] != b"\x02\x00\x00\x00UL":  # the length of the part that is not deflated
        message = f"{name}: a DICOM file without the length of its meta information"
        raise ImageError(message)
    stream = data[144 + int.from_bytes(data[140:144], "little") :]
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    size = 0
    while stream and size <= _MAX_BYTES:
        size += len(inflate.decompress(stream, 1 << 24))
        stream = inflate.unconsumed_tail
    if size > _MAX_BYTES:
        message = f"{name}: inflates to more than {_MAX_BYTES // 10**6} MB; not a radiograph"
        raise ImageError(message)


def _check_kind(dataset: Dataset, name: str) -> None:
    """Reject files that are not a single grey radiograph."""
    modality = str(dataset.get("Modality", ""))
    if "PixelData" not in dataset:
        problem = "contains no image (no PixelData)"
    elif modality not in MODALITIES:
        problem = f"modality {modality or 'not given'}; use a radiograph: {', '.join(MODALITIES)}"
    elif _count(dataset, "NumberOfFrames", 1) > 1:
        problem = f"contains {dataset.NumberOfFrames} frames; use a file of one radiograph"
    elif (kind := str(dataset.get("PhotometricInterpretation", ""))) not in _GREY:
        word = {"PALETTE COLOR": "palette"}.get(kind, "colour" if kind else "no")
        problem = (
            f"{word} pixels ({kind or 'PhotometricInterpretation is missing'}); use a grey one"
        )
    elif _count(dataset, "SamplesPerPixel", 1) != 1:
        problem = f"{dataset.SamplesPerPixel} samples a pixel; use a grey one"
    elif str(dataset.get("PresentationIntentType", "")) == "FOR PROCESSING":
        problem = "raw detector values (FOR PROCESSING); use the image FOR PRESENTATION"
    else:
        rows, columns = (_count(dataset, key, 0) for key in ("Rows", "Columns"))
        stored, allocated = (_count(dataset, key, 0) for key in ("BitsStored", "BitsAllocated"))
        if rows < 1 or columns < 1:
            problem = f"{columns}x{rows} pixels"
        elif rows * columns > MAX_PIXELS:
            problem = f"{columns}x{rows} pixels; at most {MAX_PIXELS // 10**6} million"
        elif allocated not in {8, 16} or not 1 <= stored <= allocated:
            problem = f"{stored} bits stored in {allocated}; use up to 16 in 8 or 16"
        else:
            return
    message = f"{name}: {problem}"
    raise ImageError(message)


_GREY = ("MONOCHROME1", "MONOCHROME2")


def _count(dataset: Dataset, key: str, default: int) -> int:
    value = dataset.get(key)
    try:
        return default if value is None or value == "" else int(value)
    except (TypeError, ValueError):
        return 0


def _grey(dataset: Dataset, name: str) -> Grey:
    """Decode, apply the tables in their order, and return grey values in 0..1 with bright bones."""
    _check_coded_size(dataset, name)
    try:
        pixels = dataset.pixel_array
    except Exception as error:  # decoders raise any exception on damaged data
        text = str(error).lower()
        if isinstance(error, RuntimeError) and ("missing" in text or "plugin" in text):
            need = f"{name}: decoding {dataset.file_meta.TransferSyntaxUID.name}"
            raise MissingBackendError(need, "dicom") from error
        message = f"{name}: its pixels cannot be decoded ({_line(error)})"
        raise ImageError(message) from error
    try:
        values = apply_voi_lut(apply_modality_lut(pixels, dataset), dataset)
        low, high = _range(dataset)
    except Exception as error:  # as above
        message = f"{name}: its LUT or window cannot be applied ({_line(error)})"
        raise ImageError(message) from error
    grey = ((values - low) / max(high - low, 1e-9)).clip(0, 1).astype(np.float32)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = np.float32(1) - grey
    return np.ascontiguousarray(grey)


def _range(dataset: Dataset) -> tuple[float, float]:
    """Return the lowest and highest possible value after both tables."""
    voi = dataset.get("VOILUTSequence")
    if voi and "LUTData" in voi[0]:
        return 0.0, float(2 ** int(voi[0].LUTDescriptor[2]) - 1)
    modality = dataset.get("ModalityLUTSequence")
    if modality:
        return 0.0, float(2 ** int(modality[0].LUTDescriptor[2]) - 1)
    bits = int(dataset.BitsStored)
    lowest = -(2 ** (bits - 1)) if dataset.PixelRepresentation else 0
    ends = (lowest, lowest + 2**bits - 1)
    slope = float(dataset.get("RescaleSlope") or 1)
    intercept = float(dataset.get("RescaleIntercept") or 0)
    low, high = sorted(slope * end + intercept for end in ends)
    return low, high


def _check_coded_size(dataset: Dataset, name: str) -> None:
    """Reject a compressed image whose size differs from the header's."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    declared = (int(dataset.Columns), int(dataset.Rows))
    coded = _coded_size(bytes(dataset.PixelData)[:65536])
    if coded is not None and coded != declared:
        sizes = [f"{width}x{height}" for width, height in (declared, coded)]
        message = f"{name}: the header declares {sizes[0]} pixels, the image has {sizes[1]}"
        raise ImageError(message)


_J2K = re.compile(rb"\xff\x4f\xff\x51..(..)(.{8})(.{8})", re.DOTALL)


def _coded_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of the first JPEG 2000, JPEG or JPEG-LS image in fragments."""
    if found := _J2K.search(data):
        width, height = struct.unpack(">II", found[2])
        left, top = struct.unpack(">II", found[3])
        return width - left, height - top
    at = data.find(JPEG)
    return jpeg_size(data[at:]) if at >= 0 else None


def _header(dataset: Dataset) -> DicomHeader:
    laterality = str(dataset.get("ImageLaterality") or dataset.get("Laterality") or "")
    return DicomHeader(
        sex=str(dataset.get("PatientSex") or "").strip().upper(),
        laterality=laterality.strip().upper(),
        chronological_months=_age_months(dataset),
    )


def _age_months(dataset: Dataset) -> float | None:
    """Return the age on the day of the study; None if the dates are not a child's."""
    born, seen = (_day(dataset.get(key)) for key in ("PatientBirthDate", "StudyDate"))
    if born is None or seen is None:
        return None
    months = (seen - born).days / DAYS_A_MONTH
    return round(months, 2) if 0 <= months <= MAX_AGE_MONTHS else None


def _day(value: object) -> date | None:
    text = str(value or "")
    match = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text.strip())
    if match is None:
        return None
    try:
        return date(*(int(part) for part in match.groups()))
    except ValueError:
        return None


def _line(error: BaseException) -> str:
    """Return an error's first line, at most 120 characters."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__
