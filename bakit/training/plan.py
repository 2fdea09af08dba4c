"""What is trained on what, remembered beside the run so that it is only resumed as it was begun."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bakit.data.labels import find_unreadable, ids_in, read_samples, split
from bakit.errors import ImageError, InputError
from bakit.files import file_sha256, sha256, write_file
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.data.labels import Sample, Split
    from bakit.hand.weights import Localizer
    from bakit.recipes import Recipe
    from bakit.settings import Architecture, Preprocessing
    from bakit.types import OnProgress

PLAN = "plan.json"

_LISTED = 10
"""Unreadable images that an error names."""


@dataclass(frozen=True)
class TrainingPlan:
    """What to train and on what.

    Attributes:
        data: Labelled folder.
        recipe: Numbers of the training.
        architecture: Shape of the regressor.
        preprocessing: How images are prepared.
        localizer: How hands are found.
        exclude: Labelled folders whose ids are left out of all parts.
        skip_unreadable: Leave out images that cannot be used, instead of refusing.
        limit: Train on at most this many images (``limited``).
        split_seed: Seed of the 7:2:1 split.
        seed: Seed of the training.
        description: What the images are, in words.
        terms: Terms of use of the weights, in words.
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
    seed: int = 0
    description: str = "not described"
    terms: str = "not stated"


class _Remembered(msgspec.Struct, frozen=True):
    """What a run's folder remembers.

    Attributes:
        settings: All that decides the result, by name.
        unreadable: Ids of images that were left out.
    """

    settings: dict[str, Any]
    unreadable: tuple[str, ...]


def read_parts(
    plan: TrainingPlan,
    out: Path,
    *,
    resume: bool,
    on_progress: OnProgress = silent,
) -> tuple[Split, list[str]]:
    """Read the data folder, check it, and write the plan where a run begins.

    Args:
        plan: What to train.
        out: Folder of the run.
        resume: Whether a run that is there already is to be gone on with.
        on_progress: Called after each image that is checked.

    Returns:
        The whole parts, to which ``limited`` is yet to be applied, and the ids that are left out of
        them.

    Raises:
        InputError: If the data cannot be trained on, or ``out`` holds another run.
    """
    remembered = _read(out / PLAN)
    if remembered is not None and not resume:
        message = f"{out}: holds a run already; go on with it by --resume, or choose another --out"
        raise InputError(message)
    excluded = ids_in(plan.exclude)
    samples = [sample for sample in read_samples(plan.data) if sample.id not in excluded]
    if remembered is None:
        unreadable = _unreadable(plan, samples, on_progress)
    else:
        unreadable = remembered.unreadable
    left_out = sorted(excluded.union(unreadable))
    parts = split(samples, plan.split_seed, left_out)
    used = limited(plan, parts)
    _check(plan, used)
    settings = _settings(plan, used, left_out)
    if remembered is None:
        data = msgspec.json.encode(_Remembered(settings, unreadable))
        write_file(out / PLAN, msgspec.json.format(data, indent=1) + b"\n")
    else:
        _check_same(remembered.settings, settings, out)
    return parts, left_out


def limited(plan: TrainingPlan, parts: Split) -> Split:
    """Return the parts with as many training images as the plan allows.

    Those that are kept are spread over sex and age as all are. Validation and test stay whole, so
    that errors can be compared whatever the limit.

    Raises:
        InputError: If the limit is not possible.
    """
    count = plan.limit
    if count is None or count >= len(parts.train):
        return parts
    if count < 1:
        message = f"limit={count} is not possible; use 1 or more"
        raise InputError(message)
    ordered = sorted(parts.train, key=lambda s: (s.male, s.age_months, s.id))
    # One at random out of each of so many slices.
    edges = [index * len(ordered) // count for index in range(count + 1)]
    generator = np.random.default_rng(plan.split_seed)
    kept = {ordered[generator.integers(low, high)].id for low, high in pairwise(edges)}
    return parts._replace(train=[sample for sample in parts.train if sample.id in kept])


def _read(path: Path) -> _Remembered | None:
    """Return what a run's folder remembers, None where no run began."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Remembered)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{path}: not the plan of a run ({error}); train into a new folder"
        raise InputError(message) from error


def _unreadable(
    plan: TrainingPlan, samples: list[Sample], on_progress: OnProgress
) -> tuple[str, ...]:
    """Return the ids of images that cannot be used, if the plan allows any."""
    found = find_unreadable(samples, on_progress)
    if found and not plan.skip_unreadable:
        listed = "; ".join(f"{sample.path}: {reason}" for sample, reason in found[:_LISTED])
        more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        message = (
            f"{plan.data}: {len(found)} of {len(samples)} images cannot be used: {listed}{more}. "
            "Mend or remove them, or leave them out with --skip-unreadable"
        )
        raise ImageError(message)
    return tuple(sorted(sample.id for sample, _ in found))


def _check(plan: TrainingPlan, parts: Split) -> None:
    """Refuse parts that nothing can be learned from."""
    if len(parts.train) < plan.recipe.batch_size:
        message = (
            f"{plan.data}: {len(parts.train)} training images are fewer than a batch of "
            f"{plan.recipe.batch_size}; use more images or a smaller --batch-size"
        )
        raise InputError(message)
    if plan.architecture.sex and len({sample.male for sample in parts.train}) == 1:
        sex = "boys" if parts.train[0].male else "girls"
        message = (
            f"{plan.data}: all {len(parts.train)} training images are of {sex}: a model with the "
            "sex as an input needs both; add images, or train with --no-sex"
        )
        raise InputError(message)
    if len({sample.age_months for sample in parts.train}) == 1:
        message = f"{plan.data}: all training images have one age; there is nothing to learn"
        raise InputError(message)


def _settings(plan: TrainingPlan, parts: Split, left_out: list[str]) -> dict[str, Any]:
    """Return all that decides the result of a run."""
    document = {
        "recipe": plan.recipe,
        "architecture": plan.architecture,
        "preprocessing": plan.preprocessing,
        "localizer": plan.localizer.settings,
        "localizer_sha256": plan.localizer.sha256,
        "split_seed": plan.split_seed,
        "seed": plan.seed,
        "limit": plan.limit,
        "left_out": len(left_out),
        "data_sha256": {name: _digest(getattr(parts, name)) for name in type(parts)._fields},
    }
    settings: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return settings


def _digest(samples: Sequence[Sample]) -> str:
    """Return the digest of labels and image files."""
    rows = [(s.id, s.age_months, s.male, file_sha256(s.path)) for s in samples]
    return sha256(msgspec.json.encode(sorted(rows)))


def _check_same(old: dict[str, Any], new: dict[str, Any], out: Path) -> None:
    """Refuse to go on with a run under other settings."""
    before, now = (dict(_leaves(settings)) for settings in (old, new))
    changed = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    if changed:
        listed = ", ".join(
            f"{name} was {before.get(name)} and is {now.get(name)}" for name in sorted(changed)
        )
        message = (
            f"{out}: begun with other settings: {listed}; give the old ones to resume, or choose "
            "another --out"
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
