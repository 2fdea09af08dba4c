"""Train the student localizer without labels: from the unrolled localizer and from phantoms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bakit.data.labels import ids_in, read_samples
from bakit.data.parallel import in_processes
from bakit.data.splits import split
from bakit.errors import InputError
from bakit.export.onnx.localizer import shipped_localizer
from bakit.hand.prepare import find
from bakit.hand.weights import Localizer, write_localizer
from bakit.image.read import decode
from bakit.model.localizers import StudentInTraining
from bakit.settings import Preprocessing, StudentSettings
from bakit.training.hand_pictures import (
    PICTURE_SEEDS,
    changed,
    empty_picture,
    phantom_picture,
    square,
)
from bakit.types import silent, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bakit.training.hand_pictures import Pixels
    from bakit.types import OnProgress

GOOD = 0.2
"""Minimum score of a teacher mask to train on it (``bakit.hand.regions``)."""

_DICE_WEIGHT = 0.5
_DICE_PIXELS = 8  # keeps the overlap of two empty masks defined


@dataclass(frozen=True)
class Lessons:
    """Training settings of the student.

    ``images`` are those for which the teacher makes masks, ``phantoms`` generated radiographs,
    ``empties`` generated images without a hand; the learning rate is the peak (AdamW, one-cycle).
    """

    images: int = 4000
    phantoms: int = 2500
    empties: int = 600
    steps: int = 3000
    batch_size: int = 48
    learning_rate: float = 3e-3
    seed: int = 0

    def check(self) -> None:
        """Raise ``InputError`` for numbers that are not possible together."""
        if self.batch_size > self.images + self.phantoms:
            message = (
                f"--batch-size {self.batch_size} is not possible with {self.images} images and "
                f"{self.phantoms} phantoms; use 2 up to their number"
            )
            raise InputError(message)
        if not 0 < self.learning_rate < 1:
            message = "--learning-rate must be between 0 and 1"
            raise InputError(message)


def distill(
    data: Path,
    out: Path,
    lessons: Lessons,
    *,
    exclude: tuple[Path, ...] = (),
    split_seed: int = 0,
    settings: StudentSettings | None = None,
    workers: int | None = None,
    on_progress: OnProgress = silent,
    on_loss: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Localizer:
    """Train a student on the training split, without its labels, and write it.

    ``on_loss`` gets, every 100 steps, the step and the mean loss since the last call.

    Raises:
        BakitError: If the data cannot be used or a number is not possible.
    """
    lessons.check()
    settings = settings or StudentSettings()
    samples = split(read_samples(data), split_seed, ids_in(exclude)).train
    order = np.random.default_rng(lessons.seed + 7).permutation(len(samples))
    paths = [samples[index].path for index in order[: lessons.images]]
    seeds = range(PICTURE_SEEDS, PICTURE_SEEDS + lessons.phantoms)
    pairs = [
        *_taught(paths, workers, on_progress),
        *track(
            in_processes(phantom_picture, seeds, workers),
            "drawing phantoms",
            on_progress,
            len(seeds),
        ),
        *(empty_picture(seed) for seed in range(lessons.empties)),
    ]
    if len(pairs) < lessons.batch_size:
        message = f"{data}: the unrolled localizer found too few hands; use more --images"
        raise InputError(message)
    pictures, masks = (
        torch.from_numpy(np.stack(part))[:, None] for part in zip(*pairs, strict=True)
    )
    weights = _fit(settings, pictures, masks, lessons, on_progress, on_loss)
    origin = (
        f"bakit distill: {len(paths)} training images, {lessons.phantoms} phantoms, "
        f"{lessons.empties} images without a hand, {lessons.steps} steps, seed {lessons.seed}"
    )
    # Matrices in float16, as in a checkpoint, so that both give the same boxes.
    arrays = {n: (v.half().float() if v.ndim > 1 else v).numpy() for n, v in weights.items()}
    student = Localizer(settings, arrays, origin)
    write_localizer(out, student)
    return student


def _fit(
    settings: StudentSettings,
    pictures: Tensor,
    masks: Tensor,
    lessons: Lessons,
    on_progress: OnProgress,
    on_loss: Callable[[int, float], None],
) -> dict[str, Tensor]:
    torch.manual_seed(lessons.seed)
    model = StudentInTraining(settings)
    # As in training: channels last is faster on a CPU.
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lessons.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lessons.learning_rate, lessons.steps, pct_start=0.15
    )
    generator = torch.Generator().manual_seed(lessons.seed)
    total, every = 0.0, 100
    for step in track(range(1, lessons.steps + 1), "training", on_progress):
        chosen = torch.randint(len(pictures), (lessons.batch_size,), generator=generator)
        images, wanted = changed(
            pictures[chosen].float() / 255, masks[chosen].float() / 255, generator
        )
        loss = _loss(model(images.contiguous(memory_format=torch.channels_last)), wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % every == 0:
            on_loss(step, total / every)
            total = 0.0
    weights: dict[str, Tensor] = model.eval().folded()
    return weights


def _loss(output: Tensor, wanted: Tensor) -> Tensor:
    """Return the cross-entropy per pixel plus the Dice loss per image."""
    drawn = output.sigmoid()
    axes = (1, 2, 3)
    shared = 2 * (drawn * wanted).sum(axes) + _DICE_PIXELS
    overlap = shared / (drawn.sum(axes) + wanted.sum(axes) + _DICE_PIXELS)
    entropy = functional.binary_cross_entropy_with_logits(output, wanted)
    return entropy + _DICE_WEIGHT * (1 - overlap).mean()


def _taught(
    paths: list[Path], workers: int | None, on_progress: OnProgress
) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield the images with a good teacher mask, and the mask."""
    asked = track(in_processes(_ask, paths, workers), "teacher masks", on_progress, len(paths))
    return (pair for pair in asked if pair is not None)


def _ask(path: Path) -> tuple[Pixels, Pixels] | None:
    """Return an image and its teacher mask; None if the mask's score is low."""
    grey = decode(path)
    seen, _ = find(grey, shipped_localizer("unrolled"), Preprocessing())
    regions = seen.regions if seen else []
    if not regions or regions[0][1] < GOOD:
        return None
    return square(grey), square(regions[0][0].astype(np.float32))
