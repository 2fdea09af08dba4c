"""How often the gate is wrong: no true drift and it fails, or half a month and it passes.

    python tests/benchmarks/gate_simulation.py

Images are drawn from a model of what INT8 does to the shipped network on its test part: errors of
the float model (SD 12 months, as heavy-tailed as Student's t with 5 degrees of freedom), and per
image a change of mean size 0.54 months whose 99th percentile is 2.1 and whose largest value among
1,156 is 9 to 13 (t with 3 degrees of freedom). Drift is put in where it comes from in truth: some
images get worse, the others do not. The true drift is that of two million images.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bakit.bench.drift.compare import group_drifts
from bakit.bench.gate.accuracy import Figure, decide
from bakit.bench.statistics import bootstrap_interval
from bakit.data.labels import Sample

if TYPE_CHECKING:
    from bakit.types import Floats


POPULATION = 2_000_000


def main() -> None:
    """Simulate, and print how often the gate is wrong and how often its intervals hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=0.25, help="months")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator = np.random.default_rng(given.seed)
    check_model(generator)
    for drift in (0.0, 0.5):
        population = errors(generator, POPULATION, drift)
        true = float(population.mean())
        outcomes = {"pass": 0, "too-few-images": 0, "fail": 0}
        held = 0
        for _ in range(given.draws):
            drawn = population[generator.integers(POPULATION, size=given.images)]
            interval = bootstrap_interval(drawn)
            held += interval[0] <= true <= interval[1]
            figure = Figure("drift", float(drawn.mean()), interval)
            outcomes[decide(figure, given.limit, given.images, 0)] += 1
        not_passed = given.draws - outcomes["pass"]
        print(
            f"true drift {true:+.3f}, limit {given.limit:g} months, {given.images} images, "
            f"{given.draws} draws: {100 * not_passed / given.draws:.1f} % do not pass "
            f"({outcomes}); the 95 % interval holds the truth in {100 * held / given.draws:.1f} %"
        )
    groups_hold(generator, given.images, max(given.draws // 2, 1))


def changes(generator: np.random.Generator, count: int) -> Floats:
    """Draw what INT8 adds to a predicted age, in months."""
    return 0.49 * generator.standard_t(3, count)


def float_errors(generator: np.random.Generator, count: int) -> Floats:
    """Draw the float model's errors, in months: their mean size is 9.4."""
    return 9.9 * generator.standard_t(5, count)


def errors(generator: np.random.Generator, count: int, drift: float) -> Floats:
    """Draw how much larger an image's error is with INT8: its mean is ``drift``.

    A third of the images get worse by three times the drift on average, a skewed amount.
    """
    before = float_errors(generator, count)
    after = before + changes(generator, count)
    worse = np.abs(after) - np.abs(before)
    hit = generator.random(count) < 1 / 3
    return worse - worse.mean() + hit * generator.exponential(3 * drift, count)


def check_model(generator: np.random.Generator) -> None:
    """Print the model's moments beside the measured ones."""
    drawn = np.abs(changes(generator, POPULATION))
    largest = [np.abs(changes(generator, 1156)).max() for _ in range(200)]
    p99 = np.percentile(drawn, 99)
    print(
        f"model: mean change {drawn.mean():.2f} (measured 0.54), p99 {p99:.2f} (2.1 to 2.3), "
        f"largest of 1,156 {np.median(largest):.1f} (9 and 13), float MAE "
        f"{np.abs(float_errors(generator, POPULATION)).mean():.1f} (9.4)"
    )


def groups_hold(generator: np.random.Generator, images: int, draws: int) -> None:
    """Print how often the intervals of all groups hold at once, with no true change in any."""
    held = 0
    for _ in range(draws):
        true = generator.triangular(0, 150, 228, images)
        males = generator.random(images) < 0.54
        samples = [
            Sample(str(i), Path(), age, bool(male))
            for i, (age, male) in enumerate(zip(true.tolist(), males, strict=True))
        ]
        reference = true + float_errors(generator, images)
        bundle = reference + changes(generator, images)
        groups = group_drifts(samples, true, reference, bundle)
        ends = [group.mean_change_ci95_months for group in groups]
        held += all(low <= 0 <= high for low, high in ends)
    print(f"groups: all intervals of the mean change hold at once in {100 * held / draws:.1f} %")


if __name__ == "__main__":
    main()
