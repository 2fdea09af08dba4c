"""How often intervals hold the truth, and how often the gate is wrong.

    python tests/benchmarks/gate_simulation.py                  # a model of INT8's changes
    python tests/benchmarks/gate_simulation.py --report FILE    # measured pairs of a report
    python tests/benchmarks/gate_simulation.py --times          # latencies of a wandering machine

The model is that of the shipped network on its test part: errors of the float model (mean 7.9
months, as heavy-tailed as Student's t with 5 degrees of freedom), and per image a change of mean
size 0.5 months whose 99th percentile is 1.7 (SD 0.6; 1 % of the images change by 3.5 months on
average) and whose largest value among 1,156 is about 11. Ages and sexes are like RSNA's.
``--report`` draws measured pairs instead: its first INT8 bundle's ages.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.signal import lfilter

from bakit.bench import Gate, read_report
from bakit.bench.conditions import judge
from bakit.bench.drift.compare import compare
from bakit.bench.gate.accuracy import AGE_LIMITS, limit_checks
from bakit.bench.gate.baseline import RUNS
from bakit.bench.gate.power import images_to_pass, pass_share
from bakit.bench.gate.verdict import PASSING, gravest
from bakit.bench.report.document import BundleReport
from bakit.bench.statistics import (
    mean_interval,
    quantile_interval,
    ratio_interval,
    serial_intervals,
)
from bakit.data.labels import Sample
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from bakit.bench.report.drift import DriftReport
    from bakit.types import Floats

SIZES = (60, 120, 370, 1156)
SHARES = (0.5, 0.9, 0.99)
PERCENTILES = (50, 90, 99)
NOISE = 0.03
"""Mean of a query's noise, in shares of its time."""
POPULATION = 400_000
AGE_DRAWS = 3000


class Pairs(NamedTuple):
    """Ages in months, and sexes, ``(N,)`` each."""

    true: Floats
    float_months: Floats
    bundle_months: Floats
    males: Floats


def main() -> None:
    """Run the simulations and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="draw the pairs of this report of bakit bench")
    parser.add_argument("--times", action="store_true", help="latencies instead of ages")
    given = parser.parse_args()
    generator = np.random.default_rng(given.seed)
    if given.times:
        times(generator, given.draws)
        ratios(generator, given.draws)
        return
    population = modelled(generator) if given.report is None else measured(given.report)
    changes = np.abs(population.bundle_months - population.float_months)
    print(
        f"changes: mean {changes.mean():.2f}, p99 {np.percentile(changes, 99):.2f}, largest "
        f"{changes.max():.1f} months"
    )
    ages(generator, population, given.draws)
    table(generator, population, given.draws)


def modelled(generator: np.random.Generator) -> Pairs:
    """Draw the model's population."""
    true = np.clip(generator.normal(127, 41, POPULATION), 1, 228)
    float_months = true + 8.3 * generator.standard_t(5, POPULATION)
    small, large = generator.normal(0, 0.6, POPULATION), generator.laplace(0, 3.5, POPULATION)
    bundle = float_months + np.where(generator.random(POPULATION) < 0.01, large, small)
    return Pairs(true, float_months, bundle, generator.random(POPULATION) < 0.54)


def measured(path: Path) -> Pairs:
    """Return the pairs of a report's first INT8 bundle."""
    found = (b.drift for b in read_report(path).bundles if b.precision is Precision.INT8)
    rows = next(drift.rows for drift in found if drift is not None)
    numbers = [(row.true_months, row.float_months, row.bundle_months, row.male) for row in rows]
    return Pairs(*np.array(numbers, float).T)


def draw(generator: np.random.Generator, population: Pairs, count: int) -> Pairs:
    """Draw pairs with replacement."""
    rows = generator.integers(len(population.true), size=count)
    return Pairs(*(column[rows] for column in population))


def drift_of(pairs: Pairs) -> DriftReport:
    """Return the drift report of pairs."""
    samples = [
        Sample(str(i), Path(), float(age), bool(male))
        for i, (age, male) in enumerate(zip(pairs.true, pairs.males, strict=True))
    ]
    fake = SimpleNamespace(name="fp32", manifest=SimpleNamespace(target="torch"))
    return compare(
        samples,
        pairs.float_months,
        pairs.bundle_months,
        fake,  # type: ignore[arg-type]  # its name and target alone are read
        is_reference=False,
        box_iou_mean=1.0,
    )


def bundle_of(drift: DriftReport) -> BundleReport:
    """Return the report of a bundle with a drift."""
    return BundleReport("int8", "onnx", Precision.INT8, "", "", "", "", {}, 0.0, None, None, drift)


def outcome(drift: DriftReport, gate: Gate, named: Collection[str] = ()) -> str:
    """Return the gravest outcome of the limits on ages."""
    return gravest(check.outcome for check in limit_checks(gate, bundle_of(drift), named))


def ages(generator: np.random.Generator, population: Pairs, draws: int) -> None:
    """Print how often the intervals of drift, error, changes and percentiles hold the truth."""
    signed = population.bundle_months - population.float_months
    errors = np.abs(population.bundle_months - population.true)
    worse = errors - np.abs(population.float_months - population.true)
    changes = np.abs(signed)
    truths = [float(values.mean()) for values in (worse, errors, signed, changes)]
    truths += [float(x) for x in np.quantile(changes, SHARES)]
    names = ["drift", "MAE", "signed change", "mean change"]
    names += [f"p{100 * share:g} of the change" for share in SHARES]
    draws = max(draws, AGE_DRAWS)
    for count in SIZES:
        held, given = np.zeros(len(names)), np.zeros(len(names))
        for _ in range(draws):
            rows = generator.integers(len(signed), size=count)
            found = [mean_interval(column[rows]) for column in (worse, errors, signed, changes)]
            found += [quantile_interval(changes[rows], share) for share in SHARES]
            for place, interval in enumerate(found):
                if interval is not None:
                    given[place] += 1
                    held[place] += interval[0] <= truths[place] <= interval[1]
        words = [_coverage(*item) for item in zip(names, held, given, strict=True)]
        error = 100 * np.sqrt(0.95 * 0.05 / draws)
        print(f"{count} images (standard error {error:.1f} %): {'; '.join(words)}", flush=True)


def _coverage(name: str, held: float, given: float) -> str:
    return f"{name} {100 * held / given:.1f} %" if given else f"{name} no interval"


def table(generator: np.random.Generator, population: Pairs, draws: int) -> None:
    """Print the outcomes of the default gate without drift, with damage, and its power."""
    gate = Gate()
    changes = np.abs(population.bundle_months - population.float_months)
    mean, p99 = float(changes.mean()), float(np.percentile(changes, 99))
    damages: dict[str, Callable[[Pairs], Pairs]] = {
        "1 % worse by 60 months": lambda pairs: hit(pairs, max(len(pairs.true) // 100, 1), 60),
        "5 films worse by 24 months": lambda pairs: hit(pairs, 5, 24),
        "mean change twice the limit": lambda pairs: scaled(pairs, 2 * 0.75 / mean),
        "p99 twice the limit": lambda pairs: scaled(pairs, 2 * 5.0 / p99),
        "drift twice the limit": lambda pairs: drifted(generator, pairs, 0.5),
    }
    for sex, word in enumerate(("girls", "boys")):
        for start, stop, place in (
            (0, 36, "under 3"),
            (36, 72, "of 3 to 6"),
            (204, 240, "from 17"),
        ):
            damages[f"{word} {place} years + 3 months"] = partial(
                shifted, male=sex, ages=(start, stop), months=3.0
            )
    for count in SIZES:
        _outcomes(generator, population, count, gate, draws, {"as it is": lambda pairs: pairs})
        _outcomes(generator, population, count, gate, max(draws // 4, 1), damages)
    bundle = bundle_of(drift_of(draw(generator, population, 1156)))
    for words, named in (("the default gate", ()), ("all limits by name", AGE_LIMITS)):
        print(f"images to pass {words}: {images_to_pass(gate, bundle, named)}")
        for count in (370, 500, 800, 1156, 2000):
            share = pass_share(gate, bundle, count, named, 200)
            print(f"resampled, {count} images: {100 * share:.0f} % pass {words}")


def _outcomes(
    generator: np.random.Generator,
    population: Pairs,
    count: int,
    gate: Gate,
    draws: int,
    damages: Mapping[str, Callable[[Pairs], Pairs]],
) -> None:
    for name, damage in damages.items():
        found = [
            outcome(drift_of(damage(draw(generator, population, count))), gate)
            for _ in range(draws)
        ]
        stopped = 100 * sum(kind not in PASSING for kind in found) / draws
        shares = {kind: round(100 * found.count(kind) / draws, 1) for kind in sorted(set(found))}
        print(f"{count} images, {name}: {stopped:.1f} % stopped; {shares}", flush=True)


def hit(pairs: Pairs, films: int, months: float) -> Pairs:
    """Move the bundle's ages of some films away from the truth."""
    away = np.where(pairs.float_months >= pairs.true, months, -months)
    moved = pairs.bundle_months + away * (np.arange(len(away)) < films)
    return pairs._replace(bundle_months=moved)


def scaled(pairs: Pairs, scale: float) -> Pairs:
    """Multiply the changes."""
    change = pairs.bundle_months - pairs.float_months
    return pairs._replace(bundle_months=pairs.float_months + change * scale)


def drifted(generator: np.random.Generator, pairs: Pairs, months: float) -> Pairs:
    """Make a third of the errors larger, by three times the drift on average."""
    away = np.where(pairs.float_months >= pairs.true, 1.0, -1.0)
    size = generator.exponential(3 * months, len(away)) * (generator.random(len(away)) < 1 / 3)
    return pairs._replace(bundle_months=pairs.bundle_months + away * size)


def shifted(pairs: Pairs, male: int, ages: tuple[float, float], months: float) -> Pairs:
    """Move the ages of one sex and range of ages."""
    inside = (pairs.true >= ages[0]) & (pairs.true < ages[1]) & (pairs.males == male)
    return pairs._replace(bundle_months=pairs.bundle_months + months * inside)


def _wander(generator: np.random.Generator, count: int, memory: float) -> Floats:
    """Return a process of mean 0 and deviation 1 whose changes last ``memory`` queries (AR(1))."""
    keep = np.exp(-1 / memory)
    steps = generator.normal(0, np.sqrt(1 - keep * keep), count)
    steps[0] = generator.normal()
    return lfilter([1.0], [1.0, -keep], steps)


class Machine(NamedTuple):
    """A machine's speed over a run of so many queries, around 1."""

    name: str
    speed: Callable[[np.random.Generator, int], Floats]

    def run(self, generator: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        """Return the speed in each query of a run, and the latencies in ms."""
        speed = self.speed(generator, count)
        return speed, 10 * speed * (1 + NOISE * generator.exponential(size=count))


def wanders(size: float, words: str, queries: float, share: float = 0) -> Machine:
    """Return a machine whose changes last so many queries and a share of the run (AR(1))."""
    return Machine(
        f"wanders by {100 * size:.0f} %, {words}",
        lambda generator, count: np.exp(size * _wander(generator, count, queries + share * count)),
    )


def _throttled(generator: np.random.Generator, count: int, size: float) -> Floats:
    """Return a speed that is lower for a third of each run, from a random start."""
    return 1 + size * ((np.arange(count) / count + generator.random()) % 1 < 1 / 3)


WANDERING = (
    Machine("one speed", lambda _, count: np.ones(count)),
    *(wanders(size, f"{n} queries", n) for n in (3, 10, 30) for size in (0.01, 0.02, 0.05)),
    *(
        wanders(size, f"{words} of the run", 0, share)
        for words, share in (("a tenth", 0.1), ("a third", 1 / 3), ("the length", 1), ("3", 3))
        for size in (0.01, 0.02, 0.05)
    ),
)
MACHINES = (
    *WANDERING,
    Machine("thermal ramp of 20 %", lambda _, count: np.linspace(1, 1.2, count)),
    Machine("last fifth twice as slow", lambda _, count: 1.0 + (np.arange(count) >= 0.8 * count)),
    Machine("throttled by 30 % for a third of the run", partial(_throttled, size=0.3)),
    Machine("throttled by 8 % for a third of the run", partial(_throttled, size=0.08)),
)


def times(generator: np.random.Generator, draws: int) -> None:
    """Print how often a run is steady, and how often its percentiles' intervals hold the truth.

    The truth is the percentile at the speeds of this run, which a report promises, and that of all
    runs of the machine. "Wrong" of all runs is an interval that is given for a run called steady
    and does not hold it.
    """
    for machine in MACHINES:
        for count in SIZES:
            many = [machine.run(generator, count)[1] for _ in range(POPULATION // count)]
            truth = np.percentile(np.concatenate(many), PERCENTILES)
            given, this, every, wrong = np.zeros((4, 3))
            steady = 0
            for _ in range(draws):
                speed, run = machine.run(generator, count)
                is_steady = judge(run, None, None).warning is None
                steady += is_steady
                for place, interval in enumerate(serial_intervals(run, PERCENTILES)):
                    if interval is not None:
                        low, high = (100 * _share_below(end, speed) for end in interval)
                        holds = interval[0] <= truth[place] <= interval[1]
                        given[place] += 1
                        this[place] += low <= PERCENTILES[place] <= high
                        every[place] += holds
                        wrong[place] += is_steady and not holds
            words = [
                f"p{percentile} {100 * of / draws:.0f} % have one"
                + (f", {_coverage('holds this run', one, of)}" if of else "")
                + (
                    f", {_coverage('all runs', hits, of)}, {100 * bad / draws:.1f} % wrong"
                    * bool(of)
                )
                for percentile, of, one, hits, bad in zip(
                    PERCENTILES, given, this, every, wrong, strict=True
                )
            ]
            text = f"{machine.name}, {count} queries: {100 * steady / draws:.0f} % steady"
            print(f"{text}; {'; '.join(words)}", flush=True)


def _share_below(end: float, speed: Floats) -> float:
    """Return the expected share of a run's queries that take at most so many ms."""
    return float(-np.expm1(-np.maximum(end / (10 * speed) - 1, 0) / NOISE).mean())


def ratios(generator: np.random.Generator, draws: int) -> None:
    """Print how often the interval of a p90 ratio of 1.2 holds.

    The bundles take turns of ten queries, as here; or six turns of processes whose start takes half
    as long, as on a device; or they are of two reports, whose speeds are independent.
    """
    for machine in WANDERING:
        for count in SIZES[1:]:
            length, held, steady = count // 6, np.zeros(3), 0
            for _ in range(draws):
                tens = machine.run(generator, 2 * count // 20 * 20)[1].reshape(-1, 2, 10)
                line = machine.run(generator, 12 * (length + length // 2))[1]
                device = line.reshape(6, 2, -1)[:, :, :length]
                for place, turns in enumerate((tens, device)):
                    held[place] += _holds(list(turns[:, 0]), list(turns[:, 1]))
                two = [machine.run(generator, count)[1] for _ in range(2)]
                if all(judge(run, None, None).warning is None for run in two):
                    steady += 1
                    held[2] += _holds(*(np.array_split(run, count // 10) for run in two), RUNS)
            words = [
                _coverage(name, of, draws)
                for name, of in zip(("tens", "device"), held[:2], strict=True)
            ]
            words.append(_coverage(f"two reports, {steady} pairs steady,", held[2], steady))
            print(f"{machine.name}, {count} queries: {'; '.join(words)}", flush=True)


def _holds(times: list[Floats], others: list[Floats], runs: float = 0) -> bool:
    """Return whether the interval of a ratio of 1.2 holds; ``runs`` is of two reports."""
    found = ratio_interval([1.2 * turn for turn in times], others, 90, paired=not runs)
    assert found is not None
    return found[0] / (runs or 1) <= 1.2 <= found[1] * (runs or 1)


if __name__ == "__main__":
    main()
