"""Train the amortised localizer: candidates on a few reference images each, and keep the best.

Kim et al. (2020, last section) train the network of the unrolled localizer on a few reference
images and label a new one by a single forward pass. How well that finds the hand depends on the
references and the seed, so many candidates are trained and the best on other images is kept.
No label is needed for that: phantoms know their box, and in radiographs the student's box
counts. Of the radiographs only the hardest for a mere threshold are used; on the others nearly
every candidate is right, and they would tell nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from bakit.dataset import ids_in, read_samples, split
from bakit.errors import InputError
from bakit.export.session import open_localizer, shipped_localizer
from bakit.geometry import Box
from bakit.hand import find_hand
from bakit.localizer import initial_weights, loss_gradients, unfold
from bakit.localizers import Localizer, write_localizer
from bakit.locate import locate
from bakit.phantoms.phantom import make_phantom
from bakit.preprocess import decode, working_image
from bakit.settings import AmortisedSettings
from bakit.training.processes import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from bakit.levels import Grey
    from bakit.localizers import Weights

HARD = 0.1
"""Share of the images asked about that candidates are judged on: the hardest."""

SCREEN = 3
"""In the first round candidates are judged on every third picture."""

FINALISTS = 8
"""Candidates that are judged on all of them."""

REFERENCE_SEEDS = 3_000_000
"""First seed of the phantoms that candidates are trained on."""

JUDGE_SEEDS = 4_000_000
"""First seed of the phantoms that judge, one past the last of the others."""

_PHANTOM_HEIGHTS = (100, 300)
_DOUBTS = {"two_hands", "hand_cut_off", "inverted"}  # where the student's box is not believed


@dataclass(frozen=True)
class Trials:
    """How candidates are made and judged.

    Attributes:
        candidates: Candidates; half are trained on radiographs, half on phantoms.
        references: Images that each is trained on.
        steps: Updates of half of them; the others have a third: more is not always better.
        images: Training images that the student is asked about; a tenth judges.
        phantoms: Phantoms that judge.
        seed: Seed of everything that is random.
    """

    candidates: int = 96
    references: int = 5
    steps: int = 60
    images: int = 1500
    phantoms: int = 100
    seed: int = 0

    def check(self) -> None:
        """Refuse numbers that nothing can be chosen with.

        Raises:
            InputError: If a number is not possible.
        """
        least = {"candidates": 1, "references": 1, "steps": 1, "images": 0, "phantoms": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                message = f"--{name} {getattr(self, name)} is not possible; use {value} or more"
                raise InputError(message)
        if not self.images and not self.phantoms:
            message = "--images 0 --phantoms 0 leaves nothing to choose by; give some of either"
            raise InputError(message)


class Picture(NamedTuple):
    """A working image with the box that a candidate should find.

    Attributes:
        working: ``(S, S)`` float32 in 0..1.
        box: The hand, in working pixels.
        agreement: Overlap of a mere threshold with the box, 0..1: low is hard.
    """

    working: Grey
    box: Box
    agreement: float = 0.0


class Candidate(NamedTuple):
    """One training.

    Attributes:
        references: Image files, or seeds of phantoms.
        average: Whether an update is the mean over all references; otherwise they take turns.
        steps: Updates.
        seed: Seed of the initial weights.
    """

    references: list[Path] | list[int]
    average: bool
    steps: int
    seed: int


def amortise(
    data: Path,
    out: Path,
    trials: Trials,
    *,
    exclude: tuple[Path, ...] = (),
    split_seed: int = 0,
    settings: AmortisedSettings | None = None,
    workers: int | None = None,
    on_step: Callable[[str, int], None] = lambda _what, _count: None,
    on_best: Callable[[int, float], None] = lambda _number, _overlap: None,
) -> Localizer:
    """Train candidates, choose one and write it.

    Only the training part of the data's split is looked at, and none of its labels.

    Args:
        data: Labelled folder.
        out: File to write, ``.safetensors``.
        trials: How candidates are made and judged.
        exclude: Labelled folders whose ids are left out.
        split_seed: Seed of the split, as for ``bakit train``.
        settings: The network's shape, and the steps on the image with which candidates are judged
            and used; the default ones when None.
        workers: Processes; one a core when None.
        on_step: Called with what is being done and the number done since the last call.
        on_best: Called with a candidate's number and its mean overlap (IoU) in the first round
            whenever it is the best so far.

    Raises:
        BakitError: If the data cannot be used or a number is not possible.
    """
    trials.check()
    settings = settings or AmortisedSettings()
    samples = split(read_samples(data), split_seed, ids_in(exclude)).train
    order = np.random.default_rng([trials.seed, 40]).permutation(len(samples))
    paths = [samples[index].path for index in order]
    half = len(paths) // 2  # no reference judges
    if half < trials.references:
        message = (
            f"{data}: {len(paths)} training images are too few for --references "
            f"{trials.references}; use at most {half}"
        )
        raise InputError(message)
    seeds = range(JUDGE_SEEDS, JUDGE_SEEDS + trials.phantoms)
    draw = partial(_phantom, settings.size)
    pictures = [
        *_hard(paths[half:][: trials.images], settings.size, workers, on_step),
        *spread(draw, seeds, workers, partial(on_step, "drawing phantoms")),
    ]
    if not pictures:
        message = f"{data}: the student found no hand; give more --images or some --phantoms"
        raise InputError(message)
    candidates = [_candidate(number, paths[:half], trials) for number in range(trials.candidates)]
    screen = partial(_start, settings, pictures[::SCREEN])
    first: list[tuple[float, Weights]] = []
    for weights, overlaps in spread(
        _train_and_judge, candidates, workers, partial(on_step, "training candidates"), screen, 1
    ):
        mean = float(overlaps.mean())
        if all(mean > best for best, _ in first):
            on_best(len(first), mean)
        first.append((mean, weights))
    leaders = sorted(range(len(first)), key=lambda number: -first[number][0])[:FINALISTS]
    last = list(
        spread(
            _judge,
            [first[number][1] for number in leaders],
            workers,
            partial(on_step, "judging the best"),
            partial(_start, settings, pictures),
            1,
        )
    )
    chosen = int(np.argmax([overlaps.mean() for overlaps in last]))
    number = leaders[chosen]
    origin = _origin(number, candidates[number], last[chosen], trials)
    settings = msgspec.structs.replace(settings, seed=candidates[number].seed)
    found = Localizer(settings, first[number][1], origin)
    write_localizer(out, found)
    return found


def train_on(
    references: Sequence[Grey], settings: AmortisedSettings, steps: int, *, average: bool
) -> Weights:
    """Train the network on reference images with the unrolled localizer's own loss.

    Args:
        references: ``(S, S)`` float32 working images.
        settings: Shape, loss weights, rates, and the seed of the initial weights.
        steps: Updates.
        average: Whether an update is the mean over all images; otherwise they take turns.

    Returns:
        float32 arrays by name.
    """
    shape = (settings.size, settings.size)
    patches = [unfold(image.reshape(1, -1), shape) for image in references]
    weights: Weights = dict(initial_weights(settings))
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    for step in range(steps):
        batch = patches if average else [patches[step % len(patches)]]
        gradients = [loss_gradients(image, shape, weights, settings)[1] for image in batch]
        for name in weights:
            mean = np.mean([gradient[name] for gradient in gradients], axis=0, dtype=np.float32)
            velocity[name] = np.float32(settings.momentum) * velocity[name] + mean
            weights[name] = weights[name] - np.float32(settings.learning_rate) * velocity[name]
    return weights


def _candidate(number: int, paths: list[Path], trials: Trials) -> Candidate:
    """Draw what a candidate is trained on, from its number and the seed alone."""
    generator = np.random.default_rng([trials.seed, 41, number])
    references: list[Path] | list[int]
    if number % 2:
        seeds = generator.integers(REFERENCE_SEEDS, JUDGE_SEEDS, trials.references)
        references = [int(seed) for seed in seeds]
    else:
        chosen = generator.permutation(len(paths))[: trials.references]
        references = [paths[index] for index in chosen]
    steps = max(trials.steps // 3, 1) if number // 4 % 2 else trials.steps
    return Candidate(references, bool(number // 2 % 2), steps, int(generator.integers(2**31)))


def _origin(
    number: int, candidate: Candidate, overlaps: npt.NDArray[np.float64], trials: Trials
) -> str:
    """Say in words where the chosen weights come from."""
    phantoms = overlaps[len(overlaps) - trials.phantoms :]
    images = overlaps[: len(overlaps) - trials.phantoms]
    kind = "phantoms" if isinstance(candidate.references[0], int) else "radiographs"
    turns = "averaged" if candidate.average else "in turns"
    results = [
        f"{part.mean():.3f} {what}"
        for part, what in (
            (images, f"with the student on {len(images)} hard radiographs"),
            (phantoms, f"on {len(phantoms)} phantoms"),
        )
        if len(part)
    ]
    return (
        f"bakit distill --method amortised: candidate {number} of {trials.candidates} "
        f"(seed {trials.seed}), trained on {trials.references} {kind} {turns}, {candidate.steps} "
        f"updates; IoU {', '.join(results)}"
    )


def _hard(
    paths: list[Path], size: int, workers: int | None, on_step: Callable[[str, int], None]
) -> list[Picture]:
    """Return the hardest of the images in which the student finds a hand without a doubt."""
    done = partial(on_step, "asking the student")
    asked = spread(partial(_ask, size), paths, workers, done, chunk=16)
    found = [picture for picture in asked if picture is not None]
    found.sort(key=lambda picture: picture.agreement)
    return found[: max(round(HARD * len(paths)), 1)]


def _phantom(size: int, seed: int) -> Picture:
    """Return a phantom with its exact box."""
    generator = np.random.default_rng([seed, 42])
    phantom = make_phantom(seed, height=int(generator.integers(*_PHANTOM_HEIGHTS)))
    grey = decode(phantom.image)
    return Picture(working_image(grey, size), _in_working(phantom.box, grey, size))


def _in_working(box: Box, grey: Grey, size: int) -> Box:
    """Return a box of an image in pixels of its working image."""
    height, width = grey.shape
    across, down = size / width, size / height
    edges = (box.x0 * across, box.y0 * down, box.x1 * across, box.y1 * down)
    return Box(*(round(edge) for edge in edges))


_settings: AmortisedSettings
_pictures: list[Picture]


def _ask(size: int, path: Path) -> Picture | None:
    """Return an image and the student's box, None if there is a doubt about it."""
    grey = decode(path)
    found = locate(grey, *shipped_localizer("student"))
    if found.box is None or found.scores is None or _DOUBTS & set(found.reasons):
        return None
    box = _in_working(found.box, grey, size)
    return Picture(working_image(grey, size), box, found.scores.agreement)


def _start(settings: AmortisedSettings, pictures: list[Picture]) -> None:
    """Keep in a worker process what all candidates share."""
    global _settings, _pictures  # a worker's own
    _settings, _pictures = settings, pictures


def _train_and_judge(candidate: Candidate) -> tuple[Weights, npt.NDArray[np.float64]]:
    settings = msgspec.structs.replace(_settings, seed=candidate.seed)
    references = [
        _phantom(settings.size, source).working
        if isinstance(source, int)
        else working_image(decode(source), settings.size)
        for source in candidate.references
    ]
    weights = train_on(references, settings, candidate.steps, average=candidate.average)
    return weights, _judge(weights)


def _judge(weights: Weights) -> npt.NDArray[np.float64]:
    """Return the overlap (IoU) of the box found with the right one, picture by picture."""
    session = open_localizer(weights, _settings, 1)
    overlaps = []
    for picture in _pictures:
        labels = session.run({"image": picture.working[None, None]})["labels"].astype(np.int32)
        box = find_hand(labels, picture.working)
        overlaps.append(box.iou(picture.box) if box else 0.0)
    return np.array(overlaps)
