"""Search for an INT8 recipe within accuracy limits; ``Workbench`` measures the trials."""

from __future__ import annotations

from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np

from bakit.bench.statistics import mean_interval, quantile_interval
from bakit.calib.methods import METHODS
from bakit.calib.ranges import ranges_from
from bakit.calib.statistics import gather
from bakit.data.splits import patient_numbers
from bakit.documents import UNREADABLE
from bakit.export.onnx.int8 import int8_share, layer_names, observed_model, quantize
from bakit.export.onnx.regressor import regressor_model
from bakit.export.spread import evaluate
from bakit.files import append_file, sha256
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.calib.dataset import CalibrationSet
    from bakit.calib.statistics import Statistics
    from bakit.model.checkpoint import Checkpoint
    from bakit.settings import Ranges
    from bakit.types import Floats, OnProgress

ALWAYS_FLOAT: Final = ("age_months", "head/sex")
"""The output in months and the sex input; quantizing them gains nothing."""

_MEAN_CHANGE = attrgetter("mean_change_months")

SENSITIVITY_SAMPLES: Final = 100
"""Images for the sensitivity of each layer."""

TRIALS = "trials.jsonl"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a search on the validation images: those of the gate, and on the share of INT8.

    The upper ends of the 95 % intervals have to be within them, as in the gate.

    Changes are of ``|INT8 - float|``, the drift is the rise of the MAE; the share is of the
    multiply-adds, 0..1.
    """

    max_drift_months: float = 0.25
    max_mean_change_months: float = 0.75
    max_p99_change_months: float = 5.0
    min_int8_share: float = 0.9


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A range method (``bakit.calib.methods``) and the layers that stay float."""

    method: str
    float_layers: tuple[str, ...]


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The measured result of a choice.

    Changes and drift are as in ``Limits``. ``uppers_months`` are the upper ends of the 95 %
    intervals of drift, mean change and 99th percentile (``bakit.bench.statistics``); None where
    there are too few images.
    """

    choice: Choice
    samples: int
    drift_months: float
    mean_change_months: float
    p99_change_months: float
    int8_share: float
    uppers_months: tuple[float | None, float | None, float | None] = (None, None, None)

    def broken(self, limits: Limits) -> list[str]:
        """Return the exceeded limits, each as text with numbers."""
        checks = (
            ("MAE", self.drift_months, limits.max_drift_months),
            ("mean change", self.mean_change_months, limits.max_mean_change_months),
            ("99th percentile of the change", self.p99_change_months, limits.max_p99_change_months),
        )
        broken = []
        for (name, value, most), upper in zip(checks, self.uppers_months, strict=True):
            if upper is not None and value <= most and upper <= most:  # NaN breaks every limit
                continue
            end = f"upper end {upper:.2f}" if upper is not None else "no interval on so few images"
            broken.append(f"{name} {value:+.2f} months, {end} (at most {most:.2f})")
        if self.int8_share < limits.min_int8_share:
            broken.append(f"INT8 {self.int8_share:.1%} (at least {limits.min_int8_share:.1%})")
        return broken


class Outcome(NamedTuple):
    """The result of a search.

    Attributes:
        best: The best trial within the limits, or else the closest one with enough INT8.
        trials: All trials on all validation images, in order.
        sensitivity: By layer, the mean change in months if only this layer is INT8.
        met: Whether the best trial is within all limits.
    """

    best: Trial
    trials: tuple[Trial, ...]
    sensitivity: dict[str, float]
    met: bool


class Workbench:
    """Quantizes and measures the choices for one checkpoint.

    Trials are stored in ``work``; an interrupted search continues from there.

    Attributes:
        layers: Names of the layers that can be quantized.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        calibration: CalibrationSet,
        validation: CalibrationSet,
        work: Path,
        on_progress: OnProgress = silent,
    ) -> None:
        self._checkpoint = checkpoint
        self._calibration = calibration
        self._validation = list(validation)
        self._samples = validation.samples
        self._true_months = np.array([sample.age_months for sample in validation.samples])
        self._work = work
        self._on_progress = on_progress
        self._tried = 0
        self._model = regressor_model(checkpoint)
        self._seen: Statistics | None = None
        self._identity = [checkpoint.weights_sha256, calibration.digest, validation.digest]
        self._known = self._read_trials()
        self._float_months = self._ages(self._model, len(self._validation))
        self.layers: Sequence[str] = layer_names(self._model)

    def attempt(self, choice: Choice, samples: int | None = None) -> Trial:
        """Measure a choice on the first ``samples`` validation images; on all when None."""
        count = min(samples or len(self._validation), len(self._validation))
        key = self._key(choice, count)
        if key not in self._known:
            model = quantize(self._model, self.ranges(choice))
            changes = self._ages(model, count) - self._float_months[:count]
            true, float_months = self._true_months[:count], self._float_months[:count]
            worse = np.abs(float_months + changes - true) - np.abs(float_months - true)
            sizes = np.abs(changes)
            patients = patient_numbers(self._samples[:count])
            independent = None if patients is None else int(patients.max()) + 1
            p99 = quantile_interval(sizes, 0.99, independent)
            trial = Trial(
                choice,
                count,
                float(worse.mean()),
                float(sizes.mean()),
                float(np.percentile(sizes, 99)),
                int8_share(model),
                (
                    mean_interval(worse, patients)[1],
                    mean_interval(sizes, patients)[1],
                    None if p99 is None else p99[1],
                ),
            )
            self._remember(key, trial)
        self._tried += 1
        self._on_progress("trying recipes", self._tried, None)
        return self._known[key]

    def ranges(self, choice: Choice) -> Ranges:
        """Return the ranges of a choice, with its float layers."""
        if self._seen is None:
            self._seen = gather(observed_model(self._model), self._calibration, self._on_progress)
        made = ranges_from(self._checkpoint, self._calibration, self._seen, choice.method)
        return msgspec.structs.replace(made, float_layers=choice.float_layers)

    def _ages(self, model: ModelProto, count: int) -> Floats:
        """Predict the first ``count`` validation images, in months."""
        return np.array(evaluate(model, self._validation[:count]))

    def _key(self, choice: Choice, count: int) -> str:
        parts = [*self._identity, str(count), msgspec.json.encode(choice).decode()]
        return sha256("\n".join(parts).encode())[:16]

    def _read_trials(self) -> dict[str, Trial]:
        path = self._work / TRIALS
        known = {}
        for line in path.read_bytes().splitlines() if path.is_file() else ():
            with suppress(*UNREADABLE):  # the last line of an interrupted search
                key, trial = msgspec.json.decode(line, type=tuple[str, Trial])
                known[key] = trial
        return known

    def _remember(self, key: str, trial: Trial) -> None:
        self._known[key] = trial
        self._work.mkdir(parents=True, exist_ok=True)
        append_file(self._work / TRIALS, msgspec.json.encode((key, trial)) + b"\n")


def search(bench: Workbench, limits: Limits) -> Outcome:
    """Search range methods and float layers.

    1. Quantize all layers with each range method and keep the one with the smallest mean change.
    2. Measure every layer's sensitivity with that method.
    3. While a limit is exceeded, set the most sensitive INT8 layer to float, until the minimum
       share of INT8 is reached.
    4. Try each method again with these float layers.
    """
    trials: list[Trial] = []

    def attempt(method: str, layers: tuple[str, ...]) -> Trial:
        trials.append(bench.attempt(Choice(method, layers)))
        return trials[-1]

    start = tuple(name for name in ALWAYS_FLOAT if name in bench.layers)
    best = min((attempt(method, start) for method in METHODS), key=_MEAN_CHANGE)
    sensitivity = {
        layer: _alone(layer, best.choice, bench) for layer in bench.layers if layer not in start
    }
    for layer in sorted(sensitivity, key=lambda name: -sensitivity[name]):
        if not best.broken(limits):
            break
        kept = tuple(sorted({*best.choice.float_layers, layer}))
        trial = attempt(best.choice.method, kept)
        if trial.int8_share < limits.min_int8_share:
            break
        best = trial
    if best.choice.float_layers != start:
        for method in METHODS:
            if method != best.choice.method:
                attempt(method, best.choice.float_layers)
    kept_limits = [trial for trial in trials if not trial.broken(limits)]
    enough = [trial for trial in trials if trial.int8_share >= limits.min_int8_share]
    best = min(kept_limits or enough or trials, key=_MEAN_CHANGE)
    return Outcome(best, tuple(trials), sensitivity, bool(kept_limits))


def _alone(layer: str, choice: Choice, bench: Workbench) -> float:
    """Return the mean change in months if one layer is INT8."""
    others = tuple(sorted(set(bench.layers) - {layer}))
    return bench.attempt(Choice(choice.method, others), SENSITIVITY_SAMPLES).mean_change_months
