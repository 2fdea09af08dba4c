"""From an image file to the tensors that the models read: one path for training and devices."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from bakit.area import area_means, pays
from bakit.bounds import check_image, read_bounded
from bakit.errors import ImageError, MissingBackendError
from bakit.levels import as_grey, levels

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.dicom import DicomHeader
    from bakit.geometry import Box
    from bakit.levels import Bytes, Grey
    from bakit.settings import Preprocessing

    Image = str | Path | bytes | npt.NDArray[np.generic]

MIN_SIDE = 16
"""Smallest usable side of a radiograph, in pixels."""

# Orientation tags are honoured and colour or alpha dropped; depth is kept.
_DECODE_FLAGS = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH


_FULL_SCALE = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}


_DICOM = slice(128, 132)
"""Where a DICOM file says that it is one."""


class Radiograph(NamedTuple):
    """An image as the models see it, and what its file says besides.

    Attributes:
        pixels: ``(H, W)`` uint8 where the file holds bytes of grey, else float32 in 0..1. What
            follows is faster on bytes.
        mirrored: Whether it was mirrored, since the header says that it is a right hand.
        header: What a DICOM header says; None for other files.
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
    """Return a radiograph as grey values, with what a DICOM header says of it.

    The models were trained on left hands. A DICOM image whose header says that it is a right one
    is mirrored.

    Args:
        source: Path or bytes of a PNG or JPEG (8 or 16 bit, grey or colour, EXIF orientation) or
            of a DICOM file (``bakit.dicom``), or an array ``(H, W)`` or ``(H, W, 3 or 4)`` (RGB)
            of uint8, uint16 or floats in 0..1.

    Returns:
        Grey values as stored: an inverted PNG or JPEG is not noticed here.

    Raises:
        ImageError: If it is missing, not an image, cut short, smaller than 16 pixels, blank, or
            holds NaN or values outside 0..1; or if a file is of another kind or too large
            (``bakit.bounds``).
        MissingBackendError: If it is a DICOM file and ``bakit[dicom]`` is not installed.
    """
    if isinstance(source, np.ndarray):
        return _radiograph(source, "the array")
    name = "the bytes" if isinstance(source, bytes) else str(source)
    if isinstance(source, bytes):
        data = source
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
        message = f"{name}: the image is cut short; copy it again"
        raise ImageError(message)
    check_image(data, name)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _DECODE_FLAGS)
    except cv2.error as error:  # such as more pixels than OpenCV's limit
        message = f"{name}: cannot be decoded ({error.err})"
        raise ImageError(message) from error
    if pixels is None:
        message = f"{name}: not an image that can be read; use PNG, JPEG or DICOM"
        raise ImageError(message)
    return _radiograph(pixels, name)


def _from_dicom(data: bytes, name: str) -> Radiograph:
    try:
        from bakit.dicom import read_dicom  # noqa: PLC0415  # an extra
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


def _radiograph(stored: npt.NDArray[Any], name: str) -> Radiograph:
    return Radiograph(_checked(stored, name))


def working_image(grey: Grey | Bytes, size: int) -> Grey:
    """Return the localizer's input.

    The whole radiograph, squashed to a square so that the graph's shape is static, its grey values
    stretched between the 1st and 99th percentile.

    Args:
        grey: ``(H, W)`` in 0..1, or 255 times that as uint8.
        size: Side, in pixels.

    Returns:
        ``(size, size)`` float32 in 0..1.
    """
    small: Grey
    if pays(grey, size):
        small = area_means(grey, size)
        small = small / np.float32(255) if grey.dtype == np.uint8 else small
    else:
        small = resize(as_grey(grey), size).astype(np.float32)
    low, high = (float(value) for value in np.percentile(small, (1, 99)))
    if high <= low:  # nearly everything is one grey: stretch over what there is
        low, high = float(small.min()), float(small.max())
    stretched: Grey = (small - np.float32(low)) / np.float32(max(high - low, 1e-6))
    return stretched.clip(0, 1)


def pixel_digest(grey: Grey) -> str:
    """Return the SHA-256 of an image's pixels, whatever file they came in.

    8 bits and the same 8 bits stored as 16 are equal: both were divided by full scale.

    Args:
        grey: ``(H, W)`` float32 in 0..1, as ``decode`` returns it.
    """
    return _digest(grey, "")


def input_digest(pixels: Grey | Bytes) -> str:
    """Return the SHA-256 of size, type and values of an image, whatever file they came in.

    It takes a quarter of the time of ``pixel_digest`` on bytes of grey, from which it differs in
    that the same greys stored in 8 and in 16 bits have another digest.

    Args:
        pixels: ``Radiograph.pixels``.
    """
    return _digest(pixels, f" {pixels.dtype}")


def _digest(pixels: Grey | Bytes, kind: str) -> str:
    height, width = pixels.shape
    state = hashlib.sha256(f"{width}x{height}{kind}:".encode())
    state.update(np.ascontiguousarray(pixels).data)  # no copy: a film has 12 MB
    return state.hexdigest()


def preprocess(
    grey: Grey | Bytes, box: Box | None, settings: Preprocessing, *, inverted: bool = False
) -> Grey:
    """Return the regressor's input: crop, equalize, resize to a square.

    The crop ends at the image's edges and loses its aspect ratio, as the paper's does.

    Args:
        grey: ``(H, W)`` in 0..1, or 255 times that as uint8.
        box: The hand, in pixels of ``grey``; None for the whole image.
        settings: Margin, equalization and size.
        inverted: Whether bones are dark; they are made bright again.

    Returns:
        ``(S, S)`` float32, multiples of 1/255 in 0..1.

    Raises:
        ImageError: If the box holds no pixel of the image.
    """
    if box is not None:
        box = box.expand(settings.margin, grey.shape[1], grey.shape[0])
        if not box.area:
            size = f"{grey.shape[1]}x{grey.shape[0]}"
            message = f"the box {tuple(box)} holds no pixel of a {size} image"
            raise ImageError(message)
        grey = grey[box.y0 : box.y1, box.x0 : box.x1]
    crop = levels(grey, equalize=settings.equalize, inverted=inverted)
    pixels: Grey = resize(crop, settings.image_size).astype(np.float32) / np.float32(255)
    return pixels


def _from_array(pixels: npt.NDArray[Any]) -> Grey:
    """Return grey values on the scale of the dtype, unchecked."""
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
    """Return bytes of grey or grey values, or refuse pixels that no age can be read from."""
    whole = pixels.dtype in _FULL_SCALE and pixels.ndim == 2  # cannot be NaN or out of range
    is_bytes = whole and pixels.dtype == np.uint8
    grey = pixels if is_bytes else _from_array(pixels)
    if 0 in grey.shape or min(grey.shape) < MIN_SIDE:
        message = f"{name}: {grey.shape[1]}x{grey.shape[0]} pixels; at least {MIN_SIDE}x{MIN_SIDE}"
        raise ImageError(message)
    if not whole and not np.isfinite(grey).all():
        message = f"{name}: holds NaN or infinite values"
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


def resize(pixels: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Resize to a square, averaging where it shrinks; bytes stay bytes."""
    if pays(pixels, size):
        means = area_means(pixels, size)
        return np.rint(means).astype(np.uint8) if pixels.dtype == np.uint8 else means
    method = cv2.INTER_AREA if min(pixels.shape) > size else cv2.INTER_LINEAR
    return cv2.resize(pixels, (size, size), interpolation=method)


def _is_truncated(data: bytes) -> bool:
    """Tell whether a PNG or JPEG lacks its end: OpenCV fills the missing part with grey."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data.rfind(b"IEND") < 0  # from the end: a film has megabytes
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data[-4096:]  # a thumbnail near the start has its own
    return False
