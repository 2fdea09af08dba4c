"""The plan of a training run, stored in its folder: a run is resumed only with equal settings."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bakit.data.labels import find_unreadable, ids_in, read_samples
from bakit.data.splits import known_split, split
from bakit.documents import read_versioned
from bakit.errors import CheckpointError, ImageError, InputError
from bakit.files import file_sha256, sha256, write_file
from bakit.model.checkpoint import Checkpoint
from bakit.settings import VALIDATION_SHARE
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.data.labels import Sample
    from bakit.data.splits import Split
    from bakit.hand.weights import Localizer
    from bakit.model.recipes import Recipe
    from bakit.settings import Architecture, Preprocessing, SplitRecord
    from bakit.types import OnProgress

PLAN = "plan.json"
PLAN_VERSION = 1

_LISTED = 10
"""Maximum number of unreadable images in an error message."""


@dataclass(frozen=True)
class TrainingPlan:
    """All settings of a training run.

    The ids of the folders in ``exclude`` are in no split; ``limit`` is the maximum number of
    training images (``limited``).
    """

    data: Path
    recipe: Recipe
    architecture: Architecture
    preprocessing: Preprocessing
    localizer: Localizer
    exclude: tuple[Path, ...] = ()
    skip_unreadable: bool = False
    limit: int | None = None
    split_seed: int = 0
    validation_share: float = VALIDATION_SHARE
    seed: int = 0
    description: str = "not described"
    terms: str = "not stated"


class _Remembered(msgspec.Struct, frozen=True):
    """The content of ``plan.json``.

    ``settings`` are all that affect the result; ``unreadable`` are ids of skipped images. The first
    version of the document had no number.
    """

    settings: dict[str, Any]
    unreadable: tuple[str, ...]
    schema_version: int = PLAN_VERSION


def read_parts(
    plan: TrainingPlan,
    out: Path,
    *,
    resume: bool,
    on_progress: OnProgress = silent,
) -> tuple[Split, list[str]]:
    """Read and check the data folder; write the plan of a new run.

    Returns:
        The splits, before ``limited`` is applied, and the excluded ids.

    Raises:
        InputError: If the data cannot be trained on, or ``out`` holds another run.
    """
    remembered = _read(out / PLAN)
    if remembered is not None and not resume:
        message = f"{out}: already holds a run; resume it with --resume, or choose another --out"
        raise InputError(message)
    excluded = ids_in(plan.exclude)
    samples = [sample for sample in read_samples(plan.data) if sample.id not in excluded]
    if remembered is None:
        unreadable = _unreadable(plan, samples, on_progress)
    else:
        unreadable = remembered.unreadable
    left_out = sorted(excluded.union(unreadable))
    parts = split(samples, plan.split_seed, left_out, plan.validation_share)
    used = limited(plan, parts)
    _check(plan, used)
    for source, record in splits_of_starts(plan.recipe).items():
        _check_unseen(parts, samples, source, record)
    settings = _settings(plan, used, left_out)
    if remembered is None:
        data = msgspec.json.encode(_Remembered(settings, unreadable))
        write_file(out / PLAN, msgspec.json.format(data, indent=1) + b"\n")
    else:
        _check_same(remembered.settings, settings, out)
    return parts, left_out


def limited(plan: TrainingPlan, parts: Split) -> Split:
    """Return the splits with at most ``plan.limit`` training images.

    The selection is stratified by sex and age. The validation and test splits stay complete, so
    that errors are comparable for every limit.
    """
    count = plan.limit
    if count is None or count >= len(parts.train):
        return parts
    ordered = sorted(parts.train, key=lambda s: (s.male, s.age_months, s.id))
    # One random image from each of ``count`` slices.
    edges = [index * len(ordered) // count for index in range(count + 1)]
    generator = np.random.default_rng(plan.split_seed)
    kept = {ordered[generator.integers(low, high)].id for low, high in pairwise(edges)}
    return parts._replace(train=[sample for sample in parts.train if sample.id in kept])


def _read(path: Path) -> _Remembered | None:
    if not path.exists():
        return None
    remembered, _ = read_versioned(
        path,
        _Remembered,
        PLAN_VERSION,
        InputError,
        missing="{path}: the plan of the run cannot be read ({reason})",
        wrong="not the plan of a run; train with a new --out",
    )
    return remembered


def _unreadable(
    plan: TrainingPlan, samples: list[Sample], on_progress: OnProgress
) -> tuple[str, ...]:
    """Return the ids of unusable images; raise an error unless they are to be skipped."""
    found = find_unreadable(samples, on_progress)
    if found and not plan.skip_unreadable:
        listed = "; ".join(f"{sample.path}: {reason}" for sample, reason in found[:_LISTED])
        more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        message = (
            f"{plan.data}: {len(found)} of {len(samples)} images cannot be used: {listed}{more}. "
            "Repair or remove them, or skip them with --skip-unreadable"
        )
        raise ImageError(message)
    return tuple(sorted(sample.id for sample, _ in found))


def _check(plan: TrainingPlan, parts: Split) -> None:
    if len(parts.train) < plan.recipe.batch_size:
        message = (
            f"{plan.data}: {len(parts.train)} training images are fewer than a batch of "
            f"{plan.recipe.batch_size}; use more images or a smaller --batch-size"
        )
        raise InputError(message)
    if plan.architecture.sex and len({sample.male for sample in parts.train}) == 1:
        sex = "boys" if parts.train[0].male else "girls"
        message = (
            f"{plan.data}: all {len(parts.train)} training images show {sex}; add images of the "
            "other sex, or train with --no-sex"
        )
        raise InputError(message)
    if len({sample.age_months for sample in parts.train}) == 1:
        message = f"{plan.data}: all training images have the same age; add images of other ages"
        raise InputError(message)


def splits_of_starts(recipe: Recipe) -> dict[str, SplitRecord]:
    """Return the splits of the bakit checkpoints that a recipe starts from or learns from."""
    found = {}
    for source in (recipe.pretrained, recipe.teacher):
        if Path(source).suffix != ".safetensors" or not Path(source).is_file():
            continue  # torchvision's weights
        with suppress(CheckpointError):  # not ours, or damaged, which the loader says
            training = Checkpoint.read(Path(source)).header.training
            if training is not None:
                found[source] = training.split
    return found


def _check_unseen(parts: Split, samples: list[Sample], source: str, record: SplitRecord) -> None:
    """Reject weights that have learned what this run measures itself on."""
    known = known_split(samples, record)
    if known is None:
        return
    learned = {sample.id for sample in known.train}
    chosen = learned.union(sample.id for sample in known.validation)
    test = sum(sample.id in chosen for sample in parts.test)
    validation = sum(sample.id in learned for sample in parts.validation)
    if test or validation:
        message = (
            f"{source}: {test} of {len(parts.test)} test images and {validation} of "
            f"{len(parts.validation)} validation images were used to train these weights, so their "
            f"errors would be too small; use the same images with --split-seed {record.seed}, "
            "weights that were not trained on them, or --exclude their folder"
        )
        raise InputError(message)


def _settings(plan: TrainingPlan, parts: Split, left_out: list[str]) -> dict[str, Any]:
    """Return all settings that affect the result of a run."""
    teacher = plan.recipe.teacher
    document = {
        "recipe": plan.recipe,
        "architecture": plan.architecture,
        "preprocessing": plan.preprocessing,
        "localizer": plan.localizer.settings,
        "localizer_sha256": plan.localizer.sha256,
        "split_seed": plan.split_seed,
        "validation_share": plan.validation_share,
        "seed": plan.seed,
        "limit": plan.limit,
        "left_out": len(left_out),
        "teacher_sha256": None if teacher == "none" else file_sha256(Path(teacher)),
        "data_sha256": {name: _digest(getattr(parts, name)) for name in type(parts)._fields},
    }
    settings: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return settings


def _digest(samples: Sequence[Sample]) -> str:
    rows = [(s.id, s.age_months, s.male, file_sha256(s.path)) for s in samples]
    return sha256(msgspec.json.encode(sorted(rows)))


def _check_same(old: dict[str, Any], new: dict[str, Any], out: Path) -> None:
    old = {"validation_share": VALIDATION_SHARE} | old  # the first plans had no such setting
    before, now = (dict(_leaves(settings)) for settings in (old, new))
    changed = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    if changed:
        listed = ", ".join(
            f"{name} was {before.get(name)}, now {now.get(name)}" for name in sorted(changed)
        )
        message = (
            f"{out}: started with other settings: {listed}; resume with the old settings, or "
            "choose another --out"
        )
        raise InputError(message)


def _leaves(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in settings.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found
