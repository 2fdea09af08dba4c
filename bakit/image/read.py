"""From an image file, DICOM included, to grey values."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from bakit.errors import ImageError, MissingBackendError
from bakit.image.bounds import PNG, check_image, check_pixels, read_bounded
from bakit.image.equalize import as_grey

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.image.dicom import DicomHeader
    from bakit.types import Bytes, Grey

    Image = str | Path | bytes | npt.NDArray[np.generic]

MIN_SIDE = 16
"""Smallest usable side of a radiograph, in pixels."""

# Orientation tags are honoured and colour or alpha dropped; depth is kept.
_DECODE_FLAGS = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH

_FULL_SCALE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}

_DICOM = slice(128, 132)
"""Position of the mark of a DICOM file."""


class Radiograph(NamedTuple):
    """An image for the models, and its DICOM header.

    Attributes:
        pixels: ``(H, W)`` uint8 if the file stores 8-bit grey values, which is faster; else float32
            in 0..1.
        mirrored: Whether it was mirrored, because the header declares a right hand.
        header: The DICOM header; None for other files.
    """

    pixels: Grey | Bytes
    mirrored: bool = False
    header: DicomHeader | None = None

    @property
    def grey(self) -> Grey:
        """The grey values, ``(H, W)`` float32 in 0..1."""
        return as_grey(self.pixels)


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
            (RGB) of uint8, uint16 or floats in 0..1.

    Returns:
        Grey values as stored; inverted PNG and JPEG files are detected later.

    Raises:
        ImageError: If it is missing, not an image, truncated, smaller than 16 pixels, blank, too
            large (``bakit.image.bounds``), or contains NaN or values outside 0..1.
        MissingBackendError: If it is a DICOM file and the extra ``dicom`` is not installed.
    """
    if isinstance(source, np.ndarray):
        if source.ndim > 1:  # an array of few bytes may repeat them a million million times
            check_pixels(source.shape[1], source.shape[0], "the array")
        return Radiograph(_checked(source, "the array"))
    name = "the bytes" if isinstance(source, bytes) else str(source)
    if isinstance(source, bytes):
        data = source
    elif not isinstance(source, (str, os.PathLike)):
        message = f"{type(source).__name__} is no image; use a path, bytes or a NumPy array"
        raise ImageError(message)
    else:
        try:
            data = read_bounded(Path(source))
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or error
            message = f"{name}: cannot be read ({reason})"
            raise ImageError(message) from error
    if not data:
        message = f"{name}: the file is empty"
        raise ImageError(message)
    if data[_DICOM] == b"DICM":
        return _from_dicom(data, name)
    if _is_truncated(data):
        message = f"{name}: the image is truncated; copy it again"
        raise ImageError(message)
    check_image(data, name)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _DECODE_FLAGS)
    except cv2.error as error:  # such as more pixels than OpenCV's limit
        message = f"{name}: cannot be decoded ({error.err})"
        raise ImageError(message) from error
    if pixels is None:
        message = f"{name}: not a supported image; use PNG, JPEG or DICOM"
        raise ImageError(message)
    return Radiograph(_checked(pixels, name))


def _from_dicom(data: bytes, name: str) -> Radiograph:
    try:
        from bakit.image.dicom import read_dicom  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("bakit"):
            raise
        need = f"{name}: reading DICOM"
        raise MissingBackendError(need, "dicom") from error
    grey, header = read_dicom(data, name)
    mirrored = header.laterality == "R"
    if mirrored:
        grey = np.ascontiguousarray(grey[:, ::-1])
    return Radiograph(_checked(grey, name), mirrored, header)


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
        rounded = (luma > 1) & (luma < 1 + 1e-6)  # the weights' sum rounds to just above 1
        return np.where(rounded, np.float32(1), luma)
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
    if not whole and (low < 0 or high > 1):
        message = f"{name}: values from {low:g} to {high:g}; floats must lie in 0..1"
        raise ImageError(message)
    if low == high:
        message = f"{name}: blank, every pixel has the same grey; not a radiograph"
        raise ImageError(message)
    checked: Any = np.ascontiguousarray(grey, np.uint8 if is_bytes else np.float32)
    return checked  # type: ignore[no-any-return]


def _is_truncated(data: bytes) -> bool:
    """Return whether a PNG or JPEG has no end: OpenCV fills the missing part with grey."""
    if data.startswith(PNG):
        return data.rfind(b"IEND") < 0  # from the end: files have megabytes
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data[-4096:]  # a thumbnail near the start has its own
    return False
