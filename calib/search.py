"""Search for the INT8 recipe that keeps the ages, by trying.

The search knows nothing of graphs and images: a ``Bench`` builds and measures what it asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from bakit.calib.methods import METHODS
from bakit.settings import Int8Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ALWAYS_FLOAT: Final = ("age_months", "head/sex")
"""The output is months, and the sex is one number: nothing to gain from 256 levels."""

WORTH: Final = 0.99
"""A change of the recipe is kept if it brings the mean change below this share of it."""

SENSITIVITY_SAMPLES: Final = 100
"""Images that each layer's sensitivity is measured on."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What INT8 may cost on the validation images, and how much of it there has to be.

    Attributes:
        max_drift_months: Most that the MAE may rise.
        max_mean_change_months: Most that ages may change on average, whatever the direction.
        max_p99_change_months: Most that 99 of 100 ages may change.
        min_int8_share: Least share of the multiply-adds in INT8, 0..1.
    """

    max_drift_months: float = 0.10
    max_mean_change_months: float = 0.75
    max_p99_change_months: float = 3.0
    min_int8_share: float = 0.9


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is tried.

    Attributes:
        method: How ranges are made (``bakit.calib.methods``).
        recipe: How the regressor is quantized.
        corrected: Whether the mean error of each layer is taken out of its bias.
    """

    method: str
    recipe: Int8Recipe
    corrected: bool = False


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came of it on the validation images.

    Attributes:
        choice: What was tried.
        samples: Validation images.
        drift_months: MAE of INT8 minus MAE of the float model.
        mean_change_months: Mean of ``|INT8 - float|``.
        p99_change_months: Its 99th percentile.
        int8_share: Share of the multiply-adds in INT8, 0..1.
    """

    choice: Choice
    samples: int
    drift_months: float
    mean_change_months: float
    p99_change_months: float
    int8_share: float

    def broken(self, limits: Limits) -> list[str]:
        """Say which limits it breaks, in words with numbers."""
        checks = (
            ("MAE", self.drift_months, limits.max_drift_months),
            ("mean change", self.mean_change_months, limits.max_mean_change_months),
            ("99th percentile of the change", self.p99_change_months, limits.max_p99_change_months),
        )
        broken = [
            f"{name} {value:+.2f} months (at most {most:.2f})"
            for name, value, most in checks
            if not value <= most  # NaN breaks every limit
        ]
        if self.int8_share < limits.min_int8_share:
            broken.append(f"INT8 {self.int8_share:.1%} (at least {limits.min_int8_share:.1%})")
        return broken


class Outcome(NamedTuple):
    """What the search found.

    Attributes:
        best: The trial that keeps the limits, or else comes closest with enough INT8.
        trials: All that were made on all validation images, in their order.
        sensitivity: By layer, the mean change in months when it alone is INT8.
        met: Whether the best one keeps all limits.
    """

    best: Trial
    trials: tuple[Trial, ...]
    sensitivity: dict[str, float]
    met: bool


class Bench(Protocol):
    """What builds and measures a choice."""

    layers: Sequence[str]

    def attempt(self, choice: Choice, samples: int | None = None) -> Trial:
        """Measure a choice on the first ``samples`` validation images, or on all."""
        ...


def search(bench: Bench, limits: Limits) -> Outcome:
    """Try range methods, changes of the recipe, and floats for the most sensitive layers.

    1. Everything that can be is INT8, with each range method: the least mean change wins. Then one
       scale a tensor, equalized layers and corrected biases: each stays if it helps.
    2. Every layer's sensitivity, with that choice.
    3. While a limit is broken, the most sensitive layer left returns to float, down to the least
       share of INT8.
    4. Methods and changes once more with those layers in float, whose noise hid the others'.
    """
    trials: list[Trial] = []

    def attempt(choice: Choice) -> Trial:
        trials.append(bench.attempt(choice))
        return trials[-1]

    start = Int8Recipe(tuple(name for name in ALWAYS_FLOAT if name in bench.layers))
    best = _refine(start, attempt)
    sensitivity = {
        layer: _mean_change(bench.attempt(_only(layer, best.choice, bench), SENSITIVITY_SAMPLES))
        for layer in bench.layers
        if layer not in start.float_layers
    }
    for layer in sorted(sensitivity, key=lambda name: -sensitivity[name]):
        if not best.broken(limits):
            break
        kept = tuple(sorted({*best.choice.recipe.float_layers, layer}))
        recipe = msgspec.structs.replace(best.choice.recipe, float_layers=kept)
        trial = attempt(msgspec.structs.replace(best.choice, recipe=recipe))
        if trial.int8_share < limits.min_int8_share:
            break
        best = trial
    if best.choice.recipe.float_layers != start.float_layers:
        _refine(Int8Recipe(best.choice.recipe.float_layers), attempt)
    kept_limits = [trial for trial in trials if not trial.broken(limits)]
    enough = [trial for trial in trials if trial.int8_share >= limits.min_int8_share]
    best = min(kept_limits or enough or trials, key=_mean_change)
    return Outcome(best, tuple(trials), sensitivity, bool(kept_limits))


def _refine(recipe: Int8Recipe, attempt: Callable[[Choice], Trial]) -> Trial:
    """Find the best method for a recipe, then what else helps; floats stay."""
    best = min((attempt(Choice(method, recipe)) for method in METHODS), key=_mean_change)
    for change in ({"per_channel": False}, {"equalize": True}, {}):
        choice = msgspec.structs.replace(
            best.choice,
            recipe=msgspec.structs.replace(best.choice.recipe, **change),
            corrected=best.choice.corrected or not change,
        )
        trial = attempt(choice)
        if _mean_change(trial) < WORTH * _mean_change(best):
            best = trial
    return best


def _only(layer: str, choice: Choice, bench: Bench) -> Choice:
    """Return a choice with one layer in INT8, biases as they are."""
    others = tuple(sorted(set(bench.layers) - {layer}))
    recipe = msgspec.structs.replace(choice.recipe, float_layers=others)
    return Choice(choice.method, recipe)


def _mean_change(trial: Trial) -> float:
    return trial.mean_change_months
