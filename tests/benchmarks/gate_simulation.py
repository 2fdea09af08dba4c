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
    """A machine's speed over a run of so many queries, around 1, and the share of noise."""

    name: str
    speed: Callable[[np.random.Generator, int], Floats]
    noise: float = 0.03

    def run(self, generator: np.random.Generator, count: int) -> Floats:
        """Return the latencies of a run, in ms."""
        noise = 1 + self.noise * generator.exponential(size=count)
        return 10 * self.speed(generator, count) * noise


def wander(share: float, size: float) -> Callable[[np.random.Generator, int], Floats]:
    """Return a speed whose changes last a share of the run (AR(1))."""
    return lambda generator, count: np.exp(size * _wander(generator, count, share * count))


def _places(generator: np.random.Generator, count: int, period: float) -> Floats:
    """Return the places of queries within periods, 0..1, from a random start."""
    return (np.arange(count) / (period * count) + generator.random()) % 1


MACHINES = (
    Machine("one speed", lambda _, count: np.ones(count)),
    Machine(
        "wanders, 3 queries", lambda generator, count: np.exp(0.05 * _wander(generator, count, 3))
    ),
    *(
        Machine(f"wanders by {100 * size:.0f} %, {share:g} of the run", wander(share, size))
        for size in (0.05, 0.02)
        for share in (0.01, 0.1, 0.3, 1, 3)
    ),
    *(
        Machine(
            f"random walk, {100 * size:.0f} % a run",
            lambda generator, count, size=size: np.exp(
                size * np.cumsum(generator.normal(size=count)) / np.sqrt(count)
            ),
        )
        for size in (0.02, 0.05, 0.2)
    ),
    Machine("thermal ramp of 20 %", lambda _, count: np.linspace(1, 1.2, count)),
    Machine("last fifth twice as slow", lambda _, count: 1.0 + (np.arange(count) >= 0.8 * count)),
    *(
        Machine(
            f"throttled by {100 * size:.0f} % for a third of a period of {period:g} run",
            lambda generator, count, size=size, period=period: (
                1 + size * (_places(generator, count, period) < 1 / 3)
            ),
        )
        for size in (0.3, 0.08)
        for period in (1, 0.3)
    ),
    Machine("wanders by 5 %, 0.2 of the run, noise of 30 %", wander(0.2, 0.05), 0.3),
)


def times(generator: np.random.Generator, draws: int) -> None:
    """Print how often a run is steady, and how often its percentiles' intervals hold the truth.

    The truth is the percentile of all runs of the machine. A wrong interval is one that is given
    for a run called steady and does not hold the truth.
    """
    for machine in MACHINES:
        for count in (*SIZES, 4000):
            many = [machine.run(generator, count) for _ in range(200)]
            truth = np.percentile(np.concatenate(many), PERCENTILES)
            held, given, wrong, steady = np.zeros(3), np.zeros(3), np.zeros(3), 0
            for _ in range(draws):
                run = machine.run(generator, count)
                is_steady = judge(run, None, None).warning is None
                steady += is_steady
                for place, interval in enumerate(serial_intervals(run, PERCENTILES)):
                    if interval is not None:
                        holds = interval[0] <= truth[place] <= interval[1]
                        given[place] += 1
                        held[place] += holds
                        wrong[place] += is_steady and not holds
            words = [
                f"p{percentile} {100 * of / draws:.0f} % have one, {100 * bad / draws:.1f} % wrong"
                + (f", {_coverage('holds', hits, of)}" if of else "")
                for percentile, hits, of, bad in zip(PERCENTILES, held, given, wrong, strict=True)
            ]
            text = f"{machine.name}, {count} queries: {100 * steady / draws:.0f} % steady"
            print(f"{text}; {'; '.join(words)}", flush=True)


def ratios(generator: np.random.Generator, draws: int) -> None:
    """Print how often the interval of a p90 ratio of 1.2 holds, in turns on one machine."""
    for turns, length in ((6, 17), (6, 100), (10, 10), (50, 10)):
        for memory in (1, 30, 300, 3000):
            held = 0
            for _ in range(draws):
                count = 2 * turns * length
                line = Machine("", wander(memory / count, 0.05)).run(generator, count)
                rounds = line.reshape(turns, 2, length)
                found = ratio_interval(
                    list(1.2 * rounds[:, 0]), list(rounds[:, 1]), 90, paired=True
                )
                held += found is not None and found[0] <= 1.2 <= found[1]
            text = f"{turns} turns of {length}, memory {memory}: ratio {100 * held / draws:.1f} %"
            print(text, flush=True)


if __name__ == "__main__":
    main()
