"""The calibration set: preprocessed images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bakit.errors import ImageError
from bakit.export.onnx.localizer import open_localizer
from bakit.hand.prepare import prepare
from bakit.image.read import decode, pixel_digest
from bakit.types import silent, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bakit.data.labels import Sample
    from bakit.model.checkpoint import Checkpoint
    from bakit.session import Tensors
    from bakit.types import Grey, OnProgress


@dataclass(frozen=True)
class CalibrationSet:
    """Preprocessed training images in a fixed order.

    Attributes:
        samples: The labelled images.
        pixels: The regressor's inputs, each ``(S, S)`` float32 in 0..1, in the same order.
        images_sha256: Digests of the original images (``bakit.image.read.pixel_digest``).
    """

    samples: Sequence[Sample]
    pixels: Sequence[Grey]
    images_sha256: Sequence[str] = ()

    @staticmethod
    def load(samples: Sequence[Sample], prepare: Callable[[Sample], Grey]) -> CalibrationSet:
        """Prepare images with ``prepare``, the checkpoint's preprocessing."""
        return CalibrationSet(
            samples,
            [prepare(sample) for sample in samples],
            [pixel_digest(decode(sample.path)) for sample in samples],
        )

    @property
    def digest(self) -> str:
        """SHA-256 over ids, sexes and preprocessed pixels."""
        state = hashlib.sha256()
        for sample, pixels in zip(self.samples, self.pixels, strict=True):
            state.update(f"{sample.id}:{int(sample.male)}:".encode())
            state.update(np.ascontiguousarray(pixels, np.float32).tobytes())
        return state.hexdigest()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Tensors]:
        """Yield the regressor's inputs: ``image (1, 1, S, S)`` and ``sex (1, 1)``, float32."""
        for sample, pixels in zip(self.samples, self.pixels, strict=True):
            yield {"image": pixels[None, None], "sex": np.array([[sample.male]], np.float32)}


def load_images(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    on_progress: OnProgress = silent,
    step: str = "calibration images",
) -> CalibrationSet:
    """Prepare images with the localizer and preprocessing of the checkpoint.

    Raises:
        ImageError: If an image cannot be used.
    """
    header = checkpoint.header
    localizer = open_localizer(checkpoint.localizer, header.localizer)

    def load(sample: Sample) -> Grey:
        pixels = prepare(decode(sample.path), localizer, header.preprocessing).pixels
        if pixels.min() == pixels.max():
            message = f"{sample.path}: the crop has a single grey value; not a radiograph"
            raise ImageError(message)
        return pixels

    prepared = {sample.id: load(sample) for sample in track(samples, step, on_progress)}
    return CalibrationSet.load(samples, lambda sample: prepared[sample.id])
