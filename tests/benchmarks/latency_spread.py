"""Two bundles benched again and again: ratios of one run's turns beside ratios of separate runs.

    python tests/benchmarks/latency_spread.py A B --times 10

Each repetition measures A alone, then B alone, then A and B in turns. The spread of the two kinds
of ratio is what a gate on latency would have to allow for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bakit.bench import run_bench
from bakit.errors import BakitError


def main() -> None:
    """Bench, and print every ratio and both spreads."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundles", type=Path, nargs=2)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    try:
        apart, turns = zip(*(ratios(given) for _ in range(given.times)), strict=True)
    except BakitError as error:
        parser.error(str(error))
    for name, values in (("separate runs", apart), ("in turns", turns)):
        spread = (max(values) - min(values)) / np.median(values)
        print(
            f"{name}: p50 ratio {np.median(values):.3f}, {min(values):.3f} to {max(values):.3f}, "
            f"spread {100 * spread:.1f} %, SD {100 * np.std(values) / np.mean(values):.1f} %"
        )


def ratios(given: argparse.Namespace) -> tuple[float, float]:
    """Return the ratio of two separate runs' medians, and that of one run's."""
    alone = [medians([bundle], given)[0] for bundle in given.bundles]
    first, second = medians(given.bundles, given)
    print(f"separate {alone[0] / alone[1]:.3f}, in turns {first / second:.3f}", flush=True)
    return alone[0] / alone[1], first / second


def medians(bundles: list[Path], given: argparse.Namespace) -> list[float]:
    """Return the median total time of each bundle, in milliseconds."""
    report = run_bench(
        bundles, min_queries=given.queries, min_duration_s=given.seconds, threads=given.threads
    )
    return [bundle.latency.stages["total"].p50_ms for bundle in report.bundles if bundle.latency]


if __name__ == "__main__":
    main()
