"""Choose the images of labelled folders on which a model is measured."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from bakit.bundle import Bundle
from bakit.data.labels import read_labels, samples_of
from bakit.data.parallel import check_count
from bakit.data.splits import ids_digest, take_part, thin
from bakit.data.tables import TABLE
from bakit.errors import InputError, LabelsError
from bakit.files import printable
from bakit.studies.evaluate.agreement import check_pairs, pairs_of
from bakit.studies.evaluate.document import Data, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.data.labels import Sample
    from bakit.model.checkpoint import Checkpoint
    from bakit.prediction import Sex
    from bakit.settings import SplitRecord


class Images(NamedTuple):
    """The labelled images to use, at least one, and their description."""

    samples: list[Sample]
    data: Data


def choose_images(
    folder: Path | str,
    model: Bundle | Checkpoint,
    part: Part | Literal["auto"] = "auto",
    limit: int | None = None,
    *,
    aged: bool = True,
    sex: Sex | None = None,
) -> Images:
    """Choose the labelled images to evaluate a model on.

    In a folder without ages, which needs ``aged=False``, only images of pairs are of use.

    Args:
        folder: A labelled folder.
        model: The model; its stored split separates training and test images.
        part: ``auto``: the test split if ``folder`` is the training folder, else all images.
            Images that training excluded are in no split.
        limit: Maximum number of images, spread evenly over ``labels.csv``; without ages at least
            one pair.
        aged: Whether true ages are required.
        sex: Sex of the images, if ``labels.csv`` gives none.

    Raises:
        LabelsError: If the labels cannot be used, or give neither ages nor pairs.
        InputError: If ``part`` needs the training folder and this is another one, or the limit is
            below 1.
    """
    check_count("limit", limit)
    folder = Path(folder)
    table = folder / TABLE
    labels = read_labels(folder, aged=aged, male=None if sex is None else sex == "M")
    everything = check_pairs(samples_of(labels, folder), f"{table}")
    records = _split_records(model)
    held_out = take_part(everything, records)
    if part == "auto":
        part = "all" if held_out is None else "test"
    usable = everything if part == "all" else take_part(everything, records, part)
    if usable is None:
        message = (
            f"{folder}: not the model's training folder, so it has no {part} split; use --part all"
        )
        raise InputError(message)
    if labels.aged:
        samples = thin(usable, limit)
    else:
        pairs = pairs_of(usable)
        if not pairs:
            message = f"{table}: neither ages nor pairs; add a column boneage or pair"
            raise LabelsError(message)
        usable = list(chain.from_iterable(pairs))
        samples = list(chain.from_iterable(thin(pairs, limit and max(limit // 2, 1))))
    data = Data(
        folder=printable(folder.resolve().name),
        images=len(everything),
        part=part,
        available=len(usable),
        trained_on=held_out is not None,
        ids_sha256=ids_digest(samples),
        assumed_sex=None if labels.sexed else sex,
    )
    return Images(samples, data)


def choose_sets(
    folders: Sequence[Path],
    model: Bundle | Checkpoint,
    part: Part | Literal["auto"] = "auto",
    limit: int | None = None,
    sex: Sex | None = None,
) -> list[Images]:
    """Choose the images of several folders (``choose_images``), with or without ages.

    Sets are named after their folders; those of equal names after their paths below the folder
    that has all of them.

    Raises:
        InputError: If a folder is given twice, no folder needs ``sex``, or as ``choose_images``.
        LabelsError: As ``choose_images``.
    """
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            message = f"{folder} is given twice; name each folder once"
            raise InputError(message)
    names = [place.name for place in places]
    if len(set(names)) < len(names):
        top = os.path.commonpath([place.parent for place in places])
        names = [place.relative_to(top).as_posix() for place in places]
    sets = [choose_images(one, model, part, limit, aged=False, sex=sex) for one in folders]
    if sex and not any(images.data.assumed_sex for images in sets):
        message = f"--sex {sex}: labels.csv gives the sexes; leave --sex out"
        raise InputError(message)
    change = msgspec.structs.replace
    return [
        Images(samples, change(data, folder=printable(name)))
        for name, (samples, data) in zip(names, sets, strict=True)
    ]


def _split_records(model: Bundle | Checkpoint) -> list[SplitRecord]:
    if isinstance(model, Bundle):
        record = model.manifest.split
    else:
        training = model.header.training
        record = training.split if training else None
    return [] if record is None else [record]
