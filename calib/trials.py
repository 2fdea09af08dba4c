"""Build and measure INT8 recipes for the search, and remember what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bakit.backends.ort import OrtSession
from bakit.calib.bias import correct_biases
from bakit.calib.calibrate import (
    SAMPLES,
    calibration_parts,
    check_calibration,
    load_images,
    ranges_from,
    statistics_of,
)
from bakit.calib.search import Choice, Limits, Outcome, Trial, search
from bakit.calib.select import choose_samples
from bakit.calib.statistics import Statistics
from bakit.data.labels import thin
from bakit.errors import InputError
from bakit.export.onnx.equalize import equalize
from bakit.export.onnx.int8 import int8_share, layer_names, quantize
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import serialize
from bakit.files import sha256, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.calib.dataset import CalibrationSet
    from bakit.data.labels import Sample
    from bakit.model.checkpoint import Checkpoint
    from bakit.settings import Ranges
    from bakit.types import Floats


VALIDATION = 600
"""Validation images that recipes are judged on by default."""

CORRECTION_SAMPLES = 64
"""Calibration images that biases are corrected on."""

TRIALS = "trials.jsonl"


class Workbench:
    """Builds and measures recipes of one checkpoint (``bakit.calib.search.Bench``).

    Args:
        checkpoint: The float checkpoint.
        calibration: Images that ranges are gathered on.
        validation: Images that recipes are judged on.
        work: Folder that keeps statistics and trials; a search that is cut off goes on from there.
        on_step: Called with what is being done and how many of it were done since the last call.

    Attributes:
        layers: Names of the layers that can be quantized.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        calibration: CalibrationSet,
        validation: CalibrationSet,
        work: Path,
        on_step: Callable[[str, int], None] = lambda _what, _count: None,
    ) -> None:
        self._checkpoint = checkpoint
        self._calibration = calibration
        self._validation = list(validation)
        self._true_months = np.array([sample.age_months for sample in validation.samples])
        self._work = work
        self._on_step = on_step
        self._model = regressor_model(checkpoint)
        self._statistics: dict[bool, Statistics] = {}
        self._identity = [checkpoint.weights_sha256, calibration.digest, validation.digest]
        self._known = self._read_trials()
        self._float_months = self._ages(self._model, len(self._validation))
        self.layers: Sequence[str] = layer_names(self._model)

    def attempt(self, choice: Choice, samples: int | None = None) -> Trial:
        """Measure a choice on the first ``samples`` validation images, or on all."""
        count = min(samples or len(self._validation), len(self._validation))
        key = self._key(choice, count)
        if key not in self._known:
            model = quantize(self._model, self.ranges(choice))
            changes = self._ages(model, count) - self._float_months[:count]
            true, float_months = self._true_months[:count], self._float_months[:count]
            drift = (
                np.abs(float_months + changes - true).mean() - np.abs(float_months - true).mean()
            )
            trial = Trial(
                choice,
                count,
                float(drift),
                float(np.abs(changes).mean()),
                float(np.percentile(np.abs(changes), 99)),
                int8_share(model),
            )
            self._remember(key, trial)
        self._on_step("trying recipes", 1)
        return self._known[key]

    def ranges(self, choice: Choice) -> Ranges:
        """Return the ranges of a choice, with its recipe and its biases."""
        made = ranges_from(
            self._checkpoint, self._calibration, self._seen(choice.recipe.equalize), choice.method
        )
        made = msgspec.structs.replace(made, recipe=choice.recipe)
        if not choice.corrected:
            return made
        key = self._key(choice, 0)
        path = self._work / f"biases-{key}.json"
        if path.is_file():
            biases = msgspec.json.decode(path.read_bytes(), type=dict[str, tuple[float, ...]])
            return msgspec.structs.replace(made, biases=biases)
        feeds = list(self._calibration)[:: max(1, len(self._calibration) // CORRECTION_SAMPLES)]
        made = correct_biases(
            self._model, made, feeds, lambda count: self._on_step("correcting biases", count)
        )
        write_file(path, msgspec.json.encode(made.biases))
        return made

    def _seen(self, equalized: bool) -> Statistics:  # a key
        if equalized not in self._statistics:
            key = sha256(" ".join([*self._identity[:2], str(equalized)]).encode())[:16]
            path = self._work / f"statistics-{key}.npz"
            if path.is_file():
                self._statistics[equalized] = Statistics.read(path)
            else:
                model = equalize(self._model) if equalized else self._model
                seen = statistics_of(
                    self._checkpoint,
                    model,
                    self._calibration,
                    lambda count: self._on_step("looking at activations", count),
                )
                seen.write(path)
                self._statistics[equalized] = seen
        return self._statistics[equalized]

    def _ages(self, model: ModelProto, count: int) -> Floats:
        """Return the ages of the first ``count`` validation images in months."""
        names = [item.name for item in model.graph.input]
        with OrtSession(serialize(model), threads=1) as session:
            return np.array(
                [
                    session.run({name: feeds[name] for name in names})["age_months"].item()
                    for feeds in self._validation[:count]
                ]
            )

    def _key(self, choice: Choice, count: int) -> str:
        parts = [*self._identity, str(count), msgspec.json.encode(choice).decode()]
        return sha256("\n".join(parts).encode())[:16]

    def _read_trials(self) -> dict[str, Trial]:
        path = self._work / TRIALS
        if not path.is_file():
            return {}
        known = {}
        for line in path.read_bytes().splitlines():
            try:
                key, trial = msgspec.json.decode(line, type=tuple[str, Trial])
            except msgspec.MsgspecError:  # the last line of a search that was cut off
                continue
            known[key] = trial
        return known

    def _remember(self, key: str, trial: Trial) -> None:
        self._known[key] = trial
        self._work.mkdir(parents=True, exist_ok=True)
        with (self._work / TRIALS).open("ab") as file:
            file.write(msgspec.json.encode((key, trial)) + b"\n")


def search_ranges(
    checkpoint: Checkpoint,
    data: Path,
    work: Path,
    limits: Limits,
    *,
    count: int = SAMPLES,
    validation: int = VALIDATION,
    seed: int = 0,
    on_step: Callable[[str, int], None] = lambda _what, _count: None,
) -> tuple[Outcome, Ranges]:
    """Search for the recipe and the ranges of a checkpoint.

    Args:
        checkpoint: The float checkpoint.
        data: The labelled folder that it was trained on. Ranges come from its training part, and
            recipes are judged on its validation part; test images are left alone.
        work: Folder that keeps statistics and trials.
        limits: What INT8 may cost.
        count: Calibration images.
        validation: Validation images at most, spread evenly.
        seed: Seed of the choice of calibration images.
        on_step: Called with what is being done and how many of it were done since the last call.

    Returns:
        What was found, and the ranges of the best trial, whether it keeps the limits or not.

    Raises:
        InputError: If it is another folder than the checkpoint was trained on, or there are too
            few images.
    """
    train, held_out = calibration_parts(checkpoint, data)
    chosen = choose_samples(train, count, seed)
    check_calibration(checkpoint, data, chosen)
    judges = thin(sorted(held_out, key=lambda sample: sample.id), validation)
    if not judges:
        message = f"{data}: no validation image to judge a recipe on"
        raise InputError(message)

    def load(samples: Sequence[Sample], what: str) -> CalibrationSet:
        return load_images(checkpoint, samples, lambda done: on_step(what, done))

    bench = Workbench(
        checkpoint,
        load(chosen, "calibration images"),
        load(judges, "validation images"),
        work,
        on_step,
    )
    outcome = search(bench, limits)
    return outcome, bench.ranges(outcome.best.choice)
