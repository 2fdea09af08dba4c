"""From an image file, DICOM included, to grey values."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import cv2
import numpy as np

from bakit.errors import ImageError, MissingBackendError
from bakit.files import read_regular
from bakit.image.bounds import MAX_BYTES, check_image, check_pixels, is_dicom
from bakit.image.box import Box
from bakit.image.equalize import as_grey

if TYPE_CHECKING:
    from types import ModuleType

    import numpy.typing as npt

    from bakit.image.dicom import DicomImage
    from bakit.image.header import DicomHeader
    from bakit.types import Bytes, Grey

    Image: TypeAlias = (
        "str | os.PathLike[str] | bytes | bytearray | memoryview | npt.NDArray[Any] | Radiograph"
    )

MIN_SIDE = 16
"""Smallest usable side of a radiograph, in pixels."""

ROUNDING = 1e-6
"""Grey values outside of 0..1 by less come from rounding."""

# Orientation tags are honoured and colour or alpha dropped; depth is kept.
_DECODE_FLAGS = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH

_FULL_SCALE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


class Radiograph(NamedTuple):
    """An image for the models, and its DICOM header.

    Attributes:
        pixels: ``(H, W)`` uint8 if the file stores 8-bit grey values, which is faster; else float32
            in 0..1.
        part: The pixels of the file that ``pixels`` covers: a DICOM image is without borders that
            are wholly padding or shutter.
        mirrored: Whether it was mirrored, because the header declares a right hand.
        header: The DICOM header; None for other files.
        sha256: Its ``input_digest``, if that was computed already.
    """

    pixels: Grey | Bytes
    part: Box
    mirrored: bool = False
    header: DicomHeader | None = None
    sha256: str = ""

    @property
    def grey(self) -> Grey:
        """The grey values, ``(H, W)`` float32 in 0..1."""
        return as_grey(self.pixels)

    def in_file(self, box: Box) -> Box:
        """Return a box of ``pixels`` in pixels of the file."""
        if self.mirrored:
            box = box.mirror(self.pixels.shape[1])
        x0, y0 = self.part[:2]
        return Box(box.x0 + x0, box.y0 + y0, box.x1 + x0, box.y1 + y0)


def decode(source: Image) -> Grey:
    """Return a radiograph as grey values: the image of ``read_radiograph``."""
    return read_radiograph(source).grey


def read_radiograph(source: Image) -> Radiograph:
    """Return a radiograph as grey values, with its DICOM header.

    The models were trained on left hands. A DICOM image whose header declares a right hand is
    mirrored.

    Args:
        source: Path or bytes of a PNG or JPEG (8 or 16 bit, grey or colour, EXIF orientation) or
            of a DICOM file (``bakit.image.dicom``), or an array ``(H, W)`` or ``(H, W, 3 or 4)``
            (RGB) of uint8, uint16 or floats in 0..1. A radiograph is returned as it is.

    Returns:
        Grey values as stored; inverted PNG and JPEG files are detected later.

    Raises:
        ImageError: If it is missing, not an image, not a regular file, damaged, smaller than 16
            pixels, blank, too large (``bakit.image.bounds``), or has NaN or values outside 0..1.
        MissingBackendError: If it is a DICOM file and the extra ``dicom`` is not installed.
    """
    if isinstance(source, Radiograph):
        return source
    if isinstance(source, np.ndarray) and not isinstance(source, np.ma.MaskedArray):
        return _whole(_checked(source, "the array"))
    data, name = _bytes_of(source)
    if not data:
        message = f"{name}: the file is empty"
        raise ImageError(message)
    if is_dicom(data):
        return _from_dicom(data, name)
    data = check_image(data, name)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _DECODE_FLAGS)
    except cv2.error as error:  # such as more pixels than OpenCV's limit
        message = f"{name}: cannot be decoded ({error.err})"
        raise ImageError(message) from error
    if pixels is None:
        message = f"{name}: the image is damaged, or of a rare kind; copy it again"
        raise ImageError(message)
    return _whole(_checked(pixels, name))


def read_source(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        ImageError: If it cannot be read, is no regular file, or has more than ``MAX_BYTES``.
    """
    try:
        return read_regular(path, MAX_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        message = f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})"
        raise ImageError(message) from error


def _bytes_of(source: object) -> tuple[bytes, str]:
    """Return an image's bytes, and its name in errors."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), "the bytes"
    if isinstance(source, (str, os.PathLike)):
        return read_source(Path(source)), str(source)
    kind = type(source).__name__
    message = f"an image of type {kind} cannot be read; use a path, bytes or a NumPy array"
    raise ImageError(message)


def _whole(pixels: Grey | Bytes) -> Radiograph:
    height, width = pixels.shape
    return Radiograph(pixels, Box(0, 0, width, height))


def describe(path: Path) -> dict[str, str]:
    """Return what bakit understands of a DICOM header (``bakit.image.dicom.describe_dicom``).

    Raises:
        ImageError: If it is no DICOM file, or cannot be read.
        MissingBackendError: If the extra ``dicom`` is not installed.
    """
    data = read_source(path)
    if not is_dicom(data):
        message = f"{path}: not a DICOM file"
        raise ImageError(message)
    found: dict[str, str] = _dicom(str(path)).describe_dicom(data, str(path))
    return found


def study_of(data: bytes, name: str) -> dict[str, str]:
    """Return what a report takes over from a DICOM file (``bakit.image.header.read_study``)."""
    found: dict[str, str] = _dicom(name).read_study(data, name)
    return found


def _dicom(name: str) -> ModuleType:
    """Return the module that reads DICOM files."""
    try:
        from bakit.image import dicom  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("bakit"):
            raise
        need = f"{name}: reading DICOM"
        raise MissingBackendError(need, "dicom") from error
    return dicom


def _from_dicom(data: bytes, name: str) -> Radiograph:
    image: DicomImage = _dicom(name).read_dicom(data, name)
    mirrored = image.header.laterality == "R"
    grey = image.grey[:, ::-1] if mirrored else image.grey
    return Radiograph(_checked(grey, name), image.part, mirrored, image.header)


def pixel_digest(grey: Grey) -> str:
    """Return the SHA-256 of ``decode``'s grey values, independent of the file format.

    8 bits and the same 8 bits stored as 16 are equal: both were divided by full scale.
    """
    return _digest(grey, "")


def input_digest(pixels: Grey | Bytes) -> str:
    """Return the SHA-256 of size, type and values of ``Radiograph.pixels``.

    On 8-bit images it takes a quarter of the time of ``pixel_digest``. The same grey values stored
    in 8 and in 16 bits have different digests.
    """
    return _digest(pixels, f" {pixels.dtype}")


def _digest(pixels: Grey | Bytes, kind: str) -> str:
    height, width = pixels.shape
    state = hashlib.sha256(f"{width}x{height}{kind}:".encode())
    state.update(np.ascontiguousarray(pixels).data)  # no copy: a radiograph has 12 MB
    return state.hexdigest()


def _from_array(pixels: npt.NDArray[Any]) -> Grey:
    """Return grey values divided by the dtype's full scale, unchecked."""
    if pixels.ndim == 3 and pixels.shape[2] in {3, 4}:
        red, green, blue = (_from_array(pixels[:, :, channel]) for channel in range(3))
        luma: Grey = 0.299 * red + 0.587 * green + 0.114 * blue  # ITU-R BT.601
        return luma
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim != 2:
        message = f"the array has shape {pixels.shape}; use (H, W), (H, W, 3) or (H, W, 4)"
        raise ImageError(message)
    if pixels.dtype not in _FULL_SCALE and not np.issubdtype(pixels.dtype, np.floating):
        message = f"the array has dtype {pixels.dtype}; use uint8, uint16 or floats in 0..1"
        raise ImageError(message)
    scaled: Grey = pixels.astype(np.float32) / np.float32(_FULL_SCALE.get(pixels.dtype, 1))
    return scaled


def _checked(pixels: npt.NDArray[Any], name: str) -> Grey | Bytes:
    """Return uint8 or float32 grey values, or reject pixels that are no radiograph."""
    if pixels.ndim >= 2:
        check_pixels(pixels.shape[1], pixels.shape[0], name)
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    whole = pixels.dtype in _FULL_SCALE and pixels.ndim == 2  # cannot be NaN or out of range
    is_bytes = whole and pixels.dtype == np.uint8
    grey = pixels if is_bytes else _from_array(pixels)
    if 0 in grey.shape or min(grey.shape) < MIN_SIDE:
        message = f"{name}: {grey.shape[1]}x{grey.shape[0]} pixels; at least {MIN_SIDE}x{MIN_SIDE}"
        raise ImageError(message)
    if not whole and not np.isfinite(grey).all():
        message = f"{name}: contains NaN or infinite values"
        raise ImageError(message)
    values = pixels if whole else grey
    low, high = float(values.min()), float(values.max())
    if not whole and (low < -ROUNDING or high > 1 + ROUNDING):
        message = f"{name}: values from {low:g} to {high:g}; floats must lie in 0..1"
        raise ImageError(message)
    if not whole:
        grey = grey.clip(0, 1)
    if low == high:
        message = f"{name}: blank, every pixel has the same grey; export the image again"
        raise ImageError(message)
    checked: Any = np.ascontiguousarray(grey, np.uint8 if is_bytes else np.float32)
    return checked  # type: ignore[no-any-return]
