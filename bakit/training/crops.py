"""Crops of the training images, made with the runtime's preprocessing and cached on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache as cached
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import msgspec
import numpy as np
import torch
from torch import Tensor

import bakit
from bakit.data.parallel import in_processes
from bakit.files import file_sha256, new_file, sha256
from bakit.hand.found import Place
from bakit.hand.prepare import crop, to_bytes
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.phantoms.phantom import draw_labels, make_phantom
from bakit.processes import cpu_count
from bakit.training.degrade import degrade
from bakit.types import silent, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bakit.data.labels import Sample
    from bakit.settings import Preprocessing
    from bakit.types import Bytes, Grey, OnProgress

ROOMS = ("hand", "image", "phantoms", "training")
"""Folders of the package whose code computes boxes and crops."""

PHANTOM_SEEDS = 1_000_000
"""First seed of the training phantoms; golden, demo and test phantoms have other seeds."""

_PHANTOM_HEIGHTS = (100, 420)
"""Range of the random height of phantoms: small ones are grainy, large ones are smooth."""

_EVALUATION_PIXELS = 256 * 96 * 96
"""Pixels of an evaluation batch; the network needs about 800 bytes per pixel."""

_SQUASHED = 100
"""Side of phantoms that are shrunk to a square by picking pixels, as in some public sets."""


@dataclass(frozen=True)
class Part:
    """Preprocessed images of one split.

    Attributes:
        images: ``(N, K, S, S)`` uint8, 255 times the regressor's input: K crops of each image; the
            first is the localizer's.
        sexes: ``(N, 1)`` float32, male 1.
        ages_months: ``(N, 1)`` float32.
    """

    images: Tensor
    sexes: Tensor
    ages_months: Tensor

    def __add__(self, other: Part) -> Part:
        """Concatenate two parts."""
        return Part(
            torch.cat([self.images, other.images]),
            torch.cat([self.sexes, other.sexes]),
            torch.cat([self.ages_months, other.ages_months]),
        )

    def windows(self) -> list[slice]:
        """Return slices for evaluation batches that fit into about 2 GB."""
        size = max(_EVALUATION_PIXELS // self.images.shape[-1] ** 2, 1)
        return [slice(start, start + size) for start in range(0, len(self.images), size)]


class Jitter(NamedTuple):
    """Settings of the additional crops of a training image.

    Attributes:
        crops: Crops per image, including the localizer's.
        share: Maximum random shift of each side of the box, as a share of the box.
        seed: Seed of the shifts and of the degraded copies.
        degrade: Share of the additional crops that come from a degraded copy (``degrade``).
    """

    crops: int = 1
    share: float = 0.0
    seed: int = 0
    degrade: float = 0.0


ONE_CROP = Jitter()


def load_part(
    samples: Sequence[Sample],
    places: dict[str, Place],
    settings: Preprocessing,
    cache: Path | None = None,
    jitter: Jitter = ONE_CROP,
    *,
    on_progress: OnProgress = silent,
) -> Part:
    """Read and preprocess images, or load them from the cache.

    The cache is a folder of prepared images, by the digest of their inputs; no cache when None.

    Raises:
        ImageError: If an image cannot be used.
    """
    key: list[object] = ["images", msgspec.to_builtins(settings), *jitter]
    for sample in samples:
        key += [sample.id, file_sha256(sample.path), places[sample.id]]

    def rows() -> Iterator[Bytes]:
        for index, sample in enumerate(samples):
            yield _crops(decode(sample.path), places[sample.id], settings, jitter, index)

    shape = (len(samples), jitter.crops, settings.image_size, settings.image_size)
    images = (
        _cached(cache, key, shape, rows, "cropping", on_progress)
        if cache
        else np.stack(list(rows()))
    )
    sexes = torch.tensor([[float(sample.male)] for sample in samples])
    ages = torch.tensor([[sample.age_months] for sample in samples])
    return Part(torch.from_numpy(images), sexes, ages)


def phantom_part(
    count: int,
    settings: Preprocessing,
    cache: Path,
    jitter: Jitter = ONE_CROP,
    *,
    first: int = PHANTOM_SEEDS,
    workers: int | None = None,
    on_progress: OnProgress = silent,
) -> Part:
    """Generate phantoms, crop them to their ground-truth boxes (if ``localize``), preprocess them.

    The first crop of a phantom has the ground-truth box. One process per CPU when ``workers`` is
    None.
    """
    seeds = range(first, first + count)
    key: list[object] = ["phantoms", msgspec.to_builtins(settings), *jitter, first, count]

    def rows() -> Iterator[Bytes]:
        make = partial(_phantom_crops, settings=settings, jitter=jitter)
        processes = min(workers or cpu_count(), max(count // 16, 1))
        return in_processes(make, seeds, processes, chunk=8)  # _cached counts

    shape = (count, jitter.crops, settings.image_size, settings.image_size)
    images = _cached(cache, key, shape, rows, "drawing phantoms", on_progress)
    labels = [draw_labels(seed) for seed in seeds]
    sexes = torch.tensor([[float(male)] for _, male, _ in labels])
    ages = torch.tensor([[age] for age, _, _ in labels])
    return Part(torch.from_numpy(images), sexes, ages)


def _phantom_crops(seed: int, settings: Preprocessing, jitter: Jitter) -> Bytes:
    generator = np.random.default_rng([seed, 20])
    phantom = make_phantom(seed, height=int(generator.integers(*_PHANTOM_HEIGHTS)))
    grey = decode(phantom.image)
    box = phantom.box if settings.localize else None
    if generator.random() < 0.5:
        square = (_SQUASHED, _SQUASHED)
        box = box and box.scale((grey.shape[0], grey.shape[1]), square)
        grey = cv2.resize(grey, square, interpolation=cv2.INTER_NEAREST).astype(np.float32)
    return _crops(grey, Place(box, phantom.inverted), settings, jitter, seed)


def _crops(grey: Grey, place: Place, settings: Preprocessing, jitter: Jitter, index: int) -> Bytes:
    """Return ``(K, S, S)`` uint8: the crop of the box, then those of shifted boxes."""
    generator = np.random.default_rng([jitter.seed, index, 3])
    height, width = grey.shape
    whole = place.box or Box(0, 0, width, height)
    films = [(grey, place.box)]
    for _ in range(1, jitter.crops):
        x0, y0, x1, y1 = generator.uniform(-jitter.share, jitter.share, 4)
        across, down = whole.x1 - whole.x0, whole.y1 - whole.y0
        moved = Box(
            max(round(whole.x0 + x0 * across), 0),
            max(round(whole.y0 + y0 * down), 0),
            min(round(whole.x1 + x1 * across), width),
            min(round(whole.y1 + y1 * down), height),
        )
        films.append((grey, moved))
    if jitter.degrade:
        draws = np.random.default_rng([jitter.seed, index, 4])  # separate, so boxes stay the same
        films[1:] = [_degraded(*film, jitter.degrade, draws) for film in films[1:]]
    return np.stack(
        [to_bytes(crop(film, box, place.inverted, settings, place.turn)) for film, box in films]
    )


def _degraded(
    grey: Grey, box: Box | None, share: float, generator: np.random.Generator
) -> tuple[Grey, Box | None]:
    """Return a radiograph and its box, or a degraded copy and the box scaled to it."""
    if generator.random() >= share:
        return grey, box
    worse = degrade(grey, generator)
    shapes = [(film.shape[0], film.shape[1]) for film in (grey, worse)]
    return worse, box and box.scale(shapes[0], shapes[1])


def _cached(
    cache: Path,
    key: list[object],
    shape: tuple[int, int, int, int],
    rows: Callable[[], Iterator[Bytes]],
    step: str,
    on_progress: OnProgress,
) -> Bytes:
    """Return images from the cache, making the file if it is missing.

    The file is memory-mapped: processes share it, and it may exceed the memory.
    """
    digest = sha256(msgspec.json.encode([*key, code_digest()]))
    path = cache / f"{digest[:32]}.npy"
    if not path.is_file():
        with new_file(path) as temporary:
            with temporary.open("wb") as file:
                # On a full disk this raises OSError; a write to the map would crash the process.
                os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)) + 4096)
            images = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            for index, crops in enumerate(track(rows(), step, on_progress, shape[0])):
                images[index] = crops
            images.flush()
            del images
    # Copy on write, because torch rejects read-only arrays; the array is never changed.
    mapped: Bytes = np.load(path, mmap_mode="c")
    return mapped


@cached
def code_digest() -> str:
    """Return the digest of the code that makes crops: caches of other versions are not used."""
    root = Path(bakit.__file__).parent
    sources = [path.read_bytes() for room in ROOMS for path in sorted((root / room).glob("*.py"))]
    versions = f"{cv2.__version__} {np.__version__}".encode()
    return sha256(b"\0".join([*sources, versions]))
