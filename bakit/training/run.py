"""Train a float checkpoint from labelled radiographs."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from bakit import __version__
from bakit.calib.dataset import CalibrationSet
from bakit.calib.ranges import ranges_on
from bakit.calib.select import SAMPLES, choose_samples
from bakit.data.labels import read_samples
from bakit.data.splits import split_record
from bakit.errors import InputError
from bakit.figures import FEMALE, MALE, new_axes, save_figures
from bakit.files import file_sha256, printable, write_file
from bakit.model.checkpoint import SCHEMA_VERSION, Checkpoint, Header, TrainingRecord
from bakit.model.regressor import Regressor
from bakit.training.boxes import places_by_id
from bakit.training.crops import ONE_CROP, Jitter, load_part, phantom_part
from bakit.training.fitting import THIS_MACHINE, Hardware, fit, is_first_process
from bakit.training.plan import limited, read_parts, splits_of_starts
from bakit.training.pretrained import load_backbone
from bakit.training.scoring import intervals_from, reference_answers, score, taught
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure

    from bakit.data.labels import Sample
    from bakit.data.splits import Split
    from bakit.model.recipes import Recipe
    from bakit.training.callbacks import Epoch
    from bakit.training.crops import Part
    from bakit.training.fitting import Fitted
    from bakit.training.plan import TrainingPlan
    from bakit.training.pretrained import Pretrained
    from bakit.types import OnProgress, Weights

CURVE = "curve.png"
BEST = "best.safetensors"
LAST = "last.safetensors"
UNFINISHED = "unfinished.safetensors"
"""Best epoch so far; usable as ``--pretrained`` if the run is abandoned."""


@dataclass(frozen=True)
class Progress:
    """Progress callbacks.

    ``on_progress`` gets each step of the preparation and each update of the training, ``on_epoch``
    each epoch and whether it is the best so far, ``on_pretrained`` the layers that pretrained
    weights filled.
    """

    on_progress: OnProgress = silent
    on_epoch: Callable[[Epoch, bool], None] = lambda _epoch, _best: None
    on_pretrained: Callable[[Pretrained], None] = lambda _: None


SILENT = Progress()


def train(
    plan: TrainingPlan,
    out: Path,
    *,
    resume: bool = False,
    hardware: Hardware = THIS_MACHINE,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> Checkpoint | None:
    """Train and write ``best.safetensors`` into ``out``.

    The checkpoint is the epoch with the lowest validation MAE. Its metrics are measured with the
    stored float16 weights. The test split is used once, for the metrics.

    Args:
        plan: Settings of the run.
        out: Folder of the run: best and last checkpoint, ``metrics.csv``, ``progress.json``,
            ``curve.png``, TensorBoard's ``logs``, the plan and the state for ``resume``.
        resume: Resume the run in ``out`` if there is one; the result is that of an uninterrupted
            run.
        hardware: Training hardware.
        cache: Folder for boxes and prepared images; runs may share it. ``out/cache`` when None.
        workers: Processes that prepare images; one per CPU when None.
        progress: Progress callbacks.

    Returns:
        The checkpoint; None in processes other than the main one.

    Raises:
        BakitError: If the data, the pretrained weights or the hardware cannot be used, or ``out``
            holds another run, or a run and ``resume`` is False.
    """
    _check_hardware(plan.recipe, hardware)
    # Report wrong labels before the download, and a failed download before writing files.
    read_samples(plan.data)
    teacher = None if plan.recipe.teacher == "none" else Checkpoint.read(Path(plan.recipe.teacher))
    starts = splits_of_starts(plan.recipe).values()  # now: a file may be gone hours later
    torch.manual_seed(plan.seed)
    model = Regressor(plan.architecture)
    pretrained = load_backbone(model, plan.recipe.pretrained)
    if plan.recipe.pretrained != "none":
        progress.on_pretrained(pretrained)
    whole, excluded = read_parts(
        plan,
        out,
        # The first process has created the run; the others join it.
        resume=resume or (hardware.processes > 1 and not is_first_process()),
        on_progress=progress.on_progress,
    )
    if resume and (out / BEST).is_file() and not (out / UNFINISHED).is_file():
        return Checkpoint.read(out / BEST)  # already finished
    parts = limited(plan, whole)
    ages = np.array([sample.age_months for sample in parts.train])
    mean, sd = float(ages.mean()), float(ages.std(ddof=1))
    model.mean_months.fill_(mean)
    model.sd_months.fill_(sd)
    cache = cache or out / "cache"
    training, validation, test = _prepare(plan, parts, cache, workers, progress.on_progress)
    known = taught(teacher, training, plan.recipe.teacher_weight) if teacher else training
    if plan.recipe.phantoms:
        known += phantom_part(
            plan.recipe.phantoms,
            plan.preprocessing,
            cache,
            _jitter(plan),
            workers=workers,
            on_progress=progress.on_progress,
        )
    header = Header(
        SCHEMA_VERSION, plan.architecture, mean, sd, plan.preprocessing, plan.localizer.settings
    )
    weights = plan.localizer.weights

    def keep(epoch: Epoch, found: Weights, best: bool) -> None:
        last = Checkpoint(header, found, weights).write(out / LAST)
        # With the answers, an unfinished run can be exported, too.
        replace(last, reference=reference_answers(last)).write(out / LAST)
        if best:
            write_file(out / UNFINISHED, (out / LAST).read_bytes())
        progress.on_epoch(epoch, best)

    fitted = fit(
        model,
        known,
        validation,
        plan.recipe,
        out,
        seed=plan.seed,
        hardware=hardware,
        on_progress=progress.on_progress,
        on_epoch=keep,
    )
    if not fitted.is_main:
        return None
    # Measure the weights as stored, in float16.
    stored = Checkpoint.read(out / UNFINISHED)
    save_figures({CURVE: lambda: _curve(fitted)}, out)
    intervals = intervals_from(stored, validation)
    record = TrainingRecord(
        data=plan.description,
        terms=plan.terms,
        recipe=_flat(plan.recipe),
        # Of the complete splits, from which a folder and its test split are recognized later.
        split=split_record(
            whole,
            plan.split_seed,
            excluded,
            plan.validation_share,
            starts,
        ),
        metrics={
            "validation": score(stored, validation),  # the intervals were fitted on these images
            "test": score(stored, test, intervals),
        },
        best_epoch=fitted.best.epoch,
        tool_versions=_tool_versions(),
    )
    ranges = ranges_on(stored, _calibration_set(parts.train, training))
    final = stored.with_header(training=record, ranges=ranges, intervals=intervals)
    written = replace(final, reference=reference_answers(stored)).write(out / BEST)
    (out / UNFINISHED).unlink()
    return written


def _check_hardware(recipe: Recipe, hardware: Hardware) -> None:
    if recipe.batch_size % hardware.processes or recipe.batch_size < 2 * hardware.processes:
        message = (
            f"--batch-size {recipe.batch_size} cannot be divided among {hardware.processes} "
            f"processes; use a multiple of {hardware.processes}, at least {2 * hardware.processes}"
        )
        raise InputError(message)
    hardware.check()


def _jitter(plan: TrainingPlan) -> Jitter:
    recipe = plan.recipe
    return Jitter(recipe.crops, recipe.crop_jitter, plan.seed, recipe.degrade)


def _prepare(
    plan: TrainingPlan,
    parts: Split,
    cache: Path,
    workers: int | None,
    on_progress: OnProgress,
) -> tuple[Part, Part, Part]:
    places = places_by_id(
        [sample for part in parts for sample in part],
        plan.preprocessing,
        plan.localizer,
        cache,
        workers=workers,
        on_progress=on_progress,
    )
    training, validation, test = (
        load_part(part, places, plan.preprocessing, cache, jitter, on_progress=on_progress)
        for part, jitter in zip(parts, (_jitter(plan), ONE_CROP, ONE_CROP), strict=True)
    )
    return training, validation, test


def _calibration_set(samples: Sequence[Sample], part: Part) -> CalibrationSet:
    rows = {sample.id: index for index, sample in enumerate(samples)}
    pixels = part.images.numpy()
    chosen = choose_samples(samples, SAMPLES)
    return CalibrationSet.load(
        chosen, lambda s: pixels[rows[s.id], 0].astype(np.float32) / np.float32(255)
    )


def _curve(fitted: Fitted) -> Figure:
    """Draw training and validation error by epoch."""
    figure, axes = new_axes()
    best, epochs = fitted.best, [epoch.epoch for epoch in fitted.history]
    training = [epoch.train_mae_months for epoch in fitted.history]
    validation = [epoch.val_mae_months for epoch in fitted.history]
    axes.plot(epochs, training, color=FEMALE, label="training images, augmented")
    axes.plot(epochs, validation, color=MALE, label="validation images")
    axes.plot(best.epoch, best.val_mae_months, "o", color=MALE)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean absolute error [months]")
    axes.set_title(f"best: {best.val_mae_months:.2f} months, epoch {best.epoch}")
    axes.legend()
    return figure


def _flat(recipe: Recipe) -> dict[str, str | int | float | bool | None]:
    """Return the recipe by field name: pairs as text, weights files as name and digest."""
    fields = msgspec.to_builtins(recipe)
    for name in ("pretrained", "teacher"):
        if fields[name] not in {"none", "imagenet"}:
            file = Path(fields[name])
            fields[name] = f"{printable(file.name)}, sha256 {file_sha256(file)}"
    return {name: str(v) if isinstance(v, (list, tuple)) else v for name, v in fields.items()}


def _tool_versions() -> dict[str, str]:
    libraries = ("lightning", "numpy", "opencv-python-headless", "safetensors", "torch")
    versions = {name: version(name) for name in (*libraries, "torchvision")}
    return {"bakit": __version__, "python": platform.python_version()} | versions
