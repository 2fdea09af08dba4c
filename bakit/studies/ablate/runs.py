"""The training runs of Table 2, each in its own resumable folder."""

from __future__ import annotations

import csv
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bakit.bench.statistics import mean_interval
from bakit.data.splits import split_record
from bakit.documents import read_versioned
from bakit.errors import InputError
from bakit.files import write_file
from bakit.hand.weights import Localizer
from bakit.model.regressor import Regressor
from bakit.settings import Architecture
from bakit.studies.ablate.table import TABLE_2, Measured, PaperRow, Score
from bakit.training.boxes import places_by_id
from bakit.training.crops import load_part
from bakit.training.fitting import HISTORY
from bakit.training.plan import PLAN, read_parts
from bakit.training.pretrained import load_backbone
from bakit.training.run import train
from bakit.training.scoring import predicted_and_true

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.data.labels import Sample
    from bakit.data.splits import Split
    from bakit.model.checkpoint import Checkpoint
    from bakit.settings import SplitRecord
    from bakit.training.fitting import Hardware
    from bakit.training.plan import TrainingPlan
    from bakit.training.run import Progress
    from bakit.types import Floats


ROWS = "rows"
"""Folder of the training runs."""

RESULT = "result.json"
RESULT_VERSION = 1


@dataclass(frozen=True)
class Run:
    """One training run and the rows of the table that share it.

    Attributes:
        name: Kind of the rows and our image size; also the name of its folder.
    """

    name: str
    rows: tuple[PaperRow, ...]
    plan: TrainingPlan


class OtherImagesError(InputError):
    """A row has another split than the other rows."""


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``result.json`` of a finished run.

    Attributes:
        test_errors: Absolute error of each test image in months, in the order of the split.
        schema_version: Version of the document; the first had none.
    """

    measured: Measured
    test_errors: tuple[float, ...]
    schema_version: int = RESULT_VERSION


def plan_runs(base: TrainingPlan, image_size: int | None = None) -> list[Run]:
    """Return the training runs for the whole table; arguments as for ``ablate``.

    Raises:
        InputError: If the image size is not possible.
    """
    runs: list[Run] = []
    for row in TABLE_2:
        plan = _plan(base, row, row.image_size if image_size is None else image_size)
        for index, run in enumerate(runs):
            if run.plan == plan:
                runs[index] = replace(run, rows=(*run.rows, row))
                break
        else:
            runs.append(Run(f"{row.kind}-{plan.preprocessing.image_size}", (row,), plan))
    return runs


def run_of(row: PaperRow, runs: Sequence[Run]) -> Run:
    """Return the training run of a row."""
    return next(run for run in runs if row in run.rows)


def _plan(base: TrainingPlan, row: PaperRow, image_size: int) -> TrainingPlan:
    change = msgspec.structs.replace
    try:
        preprocessing = change(
            base.preprocessing,
            image_size=image_size,
            localize=row.preprocess,
            equalize=row.preprocess,
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    source = base.recipe.pretrained if row.pretrained else "none"
    return replace(
        base,
        recipe=change(base.recipe, pretrained=source),
        architecture=change(base.architecture, sex=row.sex),
        preprocessing=preprocessing,
    )


def read_results(
    runs: Sequence[Run], out: Path, *, resume: bool
) -> tuple[dict[str, Result], dict[str, tuple[Split, list[str]]]]:
    """Read the folder of an ablation.

    Returns:
        By run: the results of finished runs; and for all started runs, the splits and excluded ids.

    Raises:
        InputError: If it holds an ablation and ``resume`` is False, or with other settings.
    """
    if out.exists() and not out.is_dir():
        message = f"{out}: not a folder; choose another --out"
        raise InputError(message)
    folder = out / ROWS
    entries = folder.iterdir() if folder.is_dir() else ()
    there = sorted(path.name for path in entries if path.is_dir())  # file managers leave files
    if there and not resume:
        message = (
            f"{out}: already holds an ablation; resume it with --resume, or choose another --out"
        )
        raise InputError(message)
    strange = sorted(set(there).difference(run.name for run in runs))
    if strange:
        message = (
            f"{out}: holds the row {strange[0]}, which these settings do not have; resume with the "
            "old settings, or choose another --out"
        )
        raise InputError(message)
    results: dict[str, Result] = {}
    begun: dict[str, tuple[Split, list[str]]] = {}
    for run in runs:
        mine = folder / run.name
        if (mine / PLAN).is_file():
            begun[run.name] = read_parts(run.plan, mine, resume=True)  # rejects other settings
            with suppress(InputError):  # not finished; a damaged file is made again
                results[run.name], _ = read_versioned(
                    mine / RESULT,
                    Result,
                    RESULT_VERSION,
                    InputError,
                    wrong="not the result of a row",
                )
    return results, begun


def check_images(folder: Path, found: SplitRecord, shared: SplitRecord) -> None:
    """Raise ``OtherImagesError`` if the splits differ: a test image may be a training image."""
    # Not the hashes of ids, which older rows do not have: the digests are of the same ids.
    facts = [(record.seed, record.excluded_ids, record.ids_sha256) for record in (found, shared)]
    if facts[0] != facts[1]:
        message = (
            f"{folder}: the split of this row differs from that of the other rows, because images "
            f"changed since they were started ({len(found.excluded_ids)} images excluded here, "
            f"{len(shared.excluded_ids)} there); restore the images, or choose another --out"
        )
        raise OtherImagesError(message)


def without_weights(runs: Sequence[Run]) -> dict[str, str]:
    """Return the runs whose ImageNet weights cannot be downloaded, with the reason.

    Raises:
        InputError: If a weights file cannot be used.
    """
    pretrained = [run for run in runs if run.plan.recipe.pretrained != "none"]
    if not pretrained:
        return {}
    source = pretrained[0].plan.recipe.pretrained  # the same for all
    try:
        load_backbone(Regressor(Architecture()), source)
    except InputError as error:
        if source != "imagenet":
            raise
        return {run.name: str(error) for run in pretrained}
    return {}


def train_run(
    run: Run,
    folder: Path,
    parts: Split,
    shared: SplitRecord,
    *,
    hardware: Hardware,
    cache: Path,
    workers: int | None,
    progress: Progress,
) -> Result:
    """Train one run, unless it is finished, and store its result.

    ``shared`` is the split of the ablation; other arguments as for ``bakit.training.run.train``.

    Raises:
        OtherImagesError: If the row has another split.
        BakitError: As ``train``.
    """
    new = not (folder / PLAN).is_file()
    whole, left_out = read_parts(run.plan, folder, resume=True, on_progress=progress.on_progress)
    try:  # before the training: a new row reads the images again
        check_images(folder, split_record(whole, run.plan.split_seed, left_out), shared)
    except OtherImagesError:
        if new:
            (folder / PLAN).unlink()  # so that it can start when the images are restored
        raise
    checkpoint = train(
        run.plan,
        folder,
        resume=True,
        hardware=hardware,
        cache=cache,
        workers=workers,
        progress=progress,
    )
    assert checkpoint is not None  # there is one process
    record = checkpoint.header.training
    assert record is not None
    check_images(folder, record.split, shared)
    errors = _test_errors(checkpoint, parts.test, cache, workers)
    scores = {part: Score(m.samples, m.mae_months) for part, m in record.metrics.items()}
    scores["test"] = Score(len(errors), float(errors.mean()), mean_interval(errors))
    with (folder / HISTORY).open(newline="") as table:
        seconds = [float(epoch["seconds"]) for epoch in csv.DictReader(table)]
    measured = Measured(
        scores["validation"], scores["test"], len(seconds), record.best_epoch, sum(seconds)
    )
    result = Result(measured, tuple(errors.tolist()))
    write_file(folder / RESULT, msgspec.json.encode(result))
    return result


def _test_errors(
    checkpoint: Checkpoint, samples: list[Sample], cache: Path, workers: int | None
) -> Floats:
    """Return the absolute error of each image in months, ``(N,)``, from the training cache."""
    header = checkpoint.header
    places = places_by_id(
        samples,
        header.preprocessing,
        Localizer(header.localizer, checkpoint.localizer, checkpoint.name),
        cache,
        workers=workers,
    )
    part = load_part(samples, places, header.preprocessing, cache)
    predicted, true = predicted_and_true(checkpoint, part)
    errors: Floats = np.abs(predicted - true)
    return errors
