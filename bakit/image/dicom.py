"""DICOM radiographs: pixels as grey values, and the header fields that bakit uses."""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from bakit.errors import ImageError, MissingBackendError
from bakit.image.bounds import check_pixels
from bakit.image.declared import BLIND_VALUES, VALUES, read_shutters, read_values, wrong
from bakit.image.elements import Elements, quiet, read_elements
from bakit.image.header import HEADER, PICTURES, RADIOGRAPHS, STUDY, DicomHeader, read_header
from bakit.image.header import read_study as study_of
from bakit.image.jpeg import check_codes, jpeg_frame
from bakit.image.jpeg2000 import find_codestream, is_whole
from bakit.image.values import Coding, Lut, Values, grey_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from bakit.image.box import Box
    from bakit.types import Grey


_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_BY_GDCM = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes[:2])
_NEED_HEADER = (*JPEGTransferSyntaxes, *JPEG2000TransferSyntaxes)
_LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit)
_ODD = re.compile(rb"\xff(\xe0..JFIF\0[^\x01]|\xee..Adobe.{6}[^\0-\x02])", re.DOTALL)
"""JFIF of an unknown version, or Adobe's marker with an unknown conversion of colours."""

_PIXELS = (
    "Columns", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "NumberOfFrames", "PixelData",
    "PlanarConfiguration", "PresentationIntentType", "Rows", "SamplesPerPixel",
)  # fmt: skip
_ALL = (*HEADER, *VALUES, *BLIND_VALUES, *_PIXELS)


class DicomImage(NamedTuple):
    """A radiograph in a DICOM file.

    Attributes:
        grey: ``(h, w)`` float32 in 0..1, bones bright, not mirrored.
        part: The pixels of the file that ``grey`` covers: without borders of padding or shutter.
        header: Its header fields.
    """

    grey: Grey
    part: Box
    header: DicomHeader


@quiet()
def read_dicom(data: bytes, name: str) -> DicomImage:
    """Return a radiograph's grey values and header fields.

    Raises:
        ImageError: If it is damaged, not a radiograph or a picture of one, of several frames, raw
            detector data, of more than ``MAX_PIXELS`` pixels, or beyond a bound of
            ``bakit.image.elements``; if a radiograph is in colour; or if it is compressed in a way
            that cannot be decoded.
        MissingBackendError: If its decompressor is not installed.
    """
    elements = read_elements(data, name, _ALL)
    _check_kind(elements)
    header = read_header(elements)
    colour = elements.count("SamplesPerPixel", 1) == 3
    values = None if colour else read_values(elements)
    shutters = read_shutters(elements)
    stored = _stored(elements)
    if stored.ndim == 3:  # a picture, 8 bits a colour
        values = Values(Coding(8, 8, 7, signed=False))
        stored = cv2.cvtColor(np.ascontiguousarray(stored), cv2.COLOR_RGB2GRAY).astype(np.uint8)
    assert values is not None
    allocated = 8 * stored.dtype.itemsize
    if allocated != values.coding.allocated:  # a decoder returns the bytes that the samples need
        coding = values.coding._replace(allocated=allocated)
        coding = coding._replace(stored=min(coding.stored, allocated))
        values = values._replace(coding=coding._replace(high=coding.stored - 1))
    grey, part = grey_values(stored, values, shutters.values())
    if not part.area:
        message = f"{elements.name}: all of it is declared as padding or is outside of the shutter"
        raise ImageError(message)
    return DicomImage(np.ascontiguousarray(grey), part, header)


@quiet()
def read_study(data: bytes, name: str) -> dict[str, str]:
    """Return what a report takes over from a radiograph (``bakit.image.header.read_study``)."""
    return study_of(read_elements(data, name, STUDY))


@quiet()
def describe_dicom(data: bytes, name: str) -> dict[str, str]:
    """Return what bakit understands of a header, by field; nothing identifies the patient.

    Raises:
        ImageError: If the header cannot be read.
    """
    elements = read_elements(data, name, _ALL)
    header = read_header(elements)
    text = elements.text
    found = {
        "transfer syntax": elements.syntax.name,
        "modality": header.modality,
        "pixels": f"{text('Columns')} x {text('Rows')}, {text('PhotometricInterpretation')}, "
        f"{text('BitsStored')} of {text('BitsAllocated')} bits",
        "sex": header.sex,
        "laterality": header.laterality,
        "body part": header.body_part,
        "age": "" if header.age_months is None else f"{header.age_months:.1f} months",
    }
    try:
        _check_kind(elements)
        values, shutters = read_values(elements), read_shutters(elements)
    except ImageError as error:
        found["refused"] = str(error).removeprefix(f"{elements.name}: ")
    else:
        found |= _described(values, shutters)
    found["review"] = ", ".join(header.doubts)
    return {key: value or "not given" for key, value in found.items() if value or key != "review"}


def _described(values: Values, shutters: Iterable[str]) -> dict[str, str]:
    lut = values.modality
    voi: Any = values.voi
    if isinstance(voi, Lut):
        seen = f"VOI LUT of {len(voi.entries)} entries up to {voi.top}"
    elif voi is not None:
        seen = f"{voi.function} window, center {voi.center:g}, width {voi.width:g}"
    else:
        seen = "none: the whole range"
    return {
        "stored bits": f"{values.coding.stored} up to bit {values.coding.high}, "
        f"{'signed' if values.coding.signed else 'unsigned'}",
        "padding": "none" if values.padding is None else "{} to {}".format(*values.padding),
        "modality values": f"{values.slope:g} x stored + {values.intercept:g}"
        if lut is None
        else f"LUT of {len(lut.entries)} entries up to {lut.top}",
        "window": seen,
        "shutter": ", ".join(shutters) or "none",
    }


def _check_kind(elements: Elements) -> None:
    """Reject files that are not a single radiograph or picture."""
    text, count = elements.text, elements.count
    modality, kind = text("Modality").upper(), text("PhotometricInterpretation").upper()
    colours = _COLOUR if modality in PICTURES else ()
    samples = 3 if kind in colours else 1
    rows, columns = count("Rows"), count("Columns")
    stored, allocated = count("BitsStored"), count("BitsAllocated")
    if "PixelData" not in elements.dataset:
        problem = "contains no image (no PixelData)"
    elif modality not in RADIOGRAPHS + PICTURES:
        problem = f"modality {modality or 'not given'}; use a radiograph: {', '.join(RADIOGRAPHS)}"
    elif count("NumberOfFrames", 1) > 1:
        problem = f"contains {count('NumberOfFrames')} frames; use a file of one radiograph"
    elif kind not in _GREY + colours:
        word = {"PALETTE COLOR": "palette"}.get(kind, "colour" if kind else "no")
        problem = (
            f"{word} pixels ({kind or 'PhotometricInterpretation is missing'}); use a grey one"
        )
    elif count("SamplesPerPixel", 1) != samples:
        problem = f"{count('SamplesPerPixel')} samples a pixel, {kind} has {samples}; send it again"
    elif text("PresentationIntentType") == "FOR PROCESSING":
        problem = "raw detector values (FOR PROCESSING); use the image FOR PRESENTATION"
    elif rows < 1 or columns < 1:
        problem = f"{columns}x{rows} pixels"
    elif allocated not in ({8, 16} if samples == 1 else {8}) or not 1 <= stored <= allocated:
        problem = f"{stored} bits stored in {allocated}; use up to 16 in 8 or 16, 8 in colour"
    else:
        problem = ""
    if problem:
        message = f"{elements.name}: {problem}"
        raise ImageError(message)
    coded = len(elements.data("PixelData")) if elements.syntax.is_encapsulated else None
    check_pixels(columns, rows, elements.name, coded)


def _stored(elements: Elements) -> npt.NDArray[Any]:
    """Return the stored integers ``(H, W)``, or RGB ``(H, W, 3)`` uint8."""
    samples = elements.count("SamplesPerPixel", 1)
    if samples == 1 and not elements.syntax.is_encapsulated:
        return _native(elements)
    if elements.syntax.is_encapsulated:
        _check_coded(elements)
    try:
        decoder = get_decoder(elements.syntax)
        lossy = elements.syntax in _LOSSY and "pillow" in decoder.available_plugins
        plugin = "pillow" if lossy else ""  # else pydicom's choice, which is gdcm
        pixels, _ = decoder.as_array(elements.dataset, decoding_plugin=plugin)
    except Exception as error:  # decoders raise any exception on damaged data
        raise wrong(elements, "its pixels cannot be decoded; the file is damaged") from error
    shape = (elements.count("Rows"), elements.count("Columns"), *([3] if samples == 3 else []))
    if pixels.shape != shape or pixels.dtype.itemsize > (2 if samples == 1 else 1):
        raise wrong(elements, "its pixels cannot be decoded as the header declares them")
    return pixels


def _native(elements: Elements) -> npt.NDArray[Any]:
    """Return integers that are not compressed."""
    rows, columns = elements.count("Rows"), elements.count("Columns")
    size = elements.count("BitsAllocated") // 8
    data = elements.data("PixelData")
    needed = rows * columns * size
    if len(data) < needed:
        problem = f"its pixels cannot be decoded: PixelData has {len(data)} bytes"
        raise wrong(elements, f"{problem}, {columns}x{rows} pixels need {needed}")
    if size == 1 and not elements.little and elements.dataset["PixelData"].VR == "OW":
        data = np.frombuffer(data[: len(data) // 2 * 2], ">u2").astype("<u2").tobytes()
    pixels = np.frombuffer(data, elements.dtype(size), rows * columns).reshape(rows, columns)
    native: npt.NDArray[Any] = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    return native


def _check_coded(elements: Elements) -> None:
    """Reject compressed pixels that cannot be decoded, or differ from the header."""
    name, syntax = elements.name, elements.syntax
    try:
        plugins = set(get_decoder(syntax).available_plugins)
    except NotImplementedError:
        plugins = set()
    if not plugins and syntax in _BY_GDCM and importlib.util.find_spec("gdcm") is None:
        need = f"{name}: decoding {syntax.name}"
        raise MissingBackendError(need, "dicom")
    try:
        data = next(generate_frames(elements.data("PixelData"), number_of_frames=1))
    except Exception as error:  # pydicom raises any exception on damaged data
        raise wrong(elements, "its pixels cannot be decoded; the file is damaged") from error
    frame = jpeg_frame(data)
    kind = syntax.name
    if syntax in _LOSSY and frame is not None and frame.bits > 8:
        kind = f"JPEG Extended of {frame.bits} bits"
        plugins -= {"gdcm", "pillow"}
    if not plugins:
        message = f"{name}: pixels in {kind} cannot be decoded; convert it to JPEG Lossless"
        raise ImageError(message)
    declared = (elements.count("Columns"), elements.count("Rows"))
    codestream = find_codestream(data)
    sized = codestream or frame
    coded = declared if sized is None else (sized.width, sized.height)
    if coded != declared:
        sizes = [f"{width}x{height}" for width, height in (declared, coded)]
        message = f"{name}: the header declares {sizes[0]} pixels, the image has {sizes[1]}"
        raise ImageError(message)
    if codestream is None:
        whole = syntax not in _NEED_HEADER or frame is not None
    else:
        whole = is_whole(data, codestream)
    if not whole:
        raise wrong(elements, "its pixels cannot be decoded; the file is damaged")
    # gdcm ends the process at more bits than it can hold, and at what libjpeg only warns of.
    deep = sized is not None and sized.bits > elements.count("BitsAllocated")
    if deep or (frame is not None and _ODD.search(data)):
        raise wrong(elements, "its pixels cannot be decoded; the file is damaged")
    if frame is not None and syntax in JPEGTransferSyntaxes:
        check_codes(data, frame, name)
