"""Ages under emulation against ages here, as a line of a table.

    PYTHONPATH=. python tests/arm/compare.py FILMS ARM.jsonl X86.jsonl [ARM.jsonl X86.jsonl ...]

Each file is one of ``tests/arm/ages.py``; the films that both have are compared.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bakit.bench.statistics import mean_interval
from bakit.data.labels import read_samples

HEAD = (
    "| run | films | FP32: largest change | INT8: largest, mean change from x86 INT8 "
    "| INT8 against FP32: mean change | dMAE [95 %] |"
)


class Comparison(NamedTuple):
    """Changes in months; those of FP32 are from x86's FP32, ``drift`` is INT8's MAE less FP32's."""

    films: int
    fp32_largest: float
    int8_largest: float
    int8_moved: float
    int8_mean: float
    drift: float
    interval: tuple[float, float]


def read_ages(path: Path) -> dict[str, dict[str, float]]:
    """Return ages by film and precision.

    Raises:
        ValueError: If a film has several ages of a precision.
    """
    found = {}
    for line in path.read_text().splitlines():
        film = json.loads(line)
        found[film["id"]] = {
            ("int8" if "int8" in n else "fp32"): a for n, a in film["ages"].items()
        }
        if len(found[film["id"]]) != len(film["ages"]):
            message = f"{path}: bundles of more than one target"
            raise ValueError(message)
    return found


def compare(
    found: dict[str, dict[str, float]], expected: dict[str, dict[str, float]], films: Path
) -> Comparison:
    """Return how ages on Arm differ from those on x86 and from the labels."""
    truth = {sample.id: sample.age_months for sample in read_samples(films)}
    both = [film for film in found if film in expected]

    def ages(source: dict[str, dict[str, float]], precision: str) -> np.ndarray:
        return np.array([source[film][precision] for film in both])

    months = np.array([truth[film] for film in both])
    fp32, int8, floats = ages(found, "fp32"), ages(found, "int8"), ages(expected, "fp32")
    moved = np.abs(int8 - ages(expected, "int8"))
    errors = np.abs(int8 - months) - np.abs(floats - months)
    return Comparison(
        len(both),
        float(np.abs(fp32 - floats).max()),
        float(moved.max()),
        float(moved.mean()),
        float(np.abs(int8 - floats).mean()),
        float(errors.mean()),
        mean_interval(errors),
    )


def main() -> None:
    """Print a line for each pair of files."""
    films, *paths = map(Path, sys.argv[1:])
    print(HEAD, "| --- " * 6 + "|", sep="\n")
    for arm, here in zip(paths[::2], paths[1::2], strict=True):
        row = compare(read_ages(arm), read_ages(here), films)
        cells = [arm.stem, str(row.films), f"{row.fp32_largest:.5f}"]
        cells += [f"{row.int8_largest:.3f}, {row.int8_moved:.3f}", f"{row.int8_mean:.2f}"]
        low, high = row.interval
        print(f"| {' | '.join(cells)} | {row.drift:+.3f} [{low:+.3f}, {high:+.3f}] |")


if __name__ == "__main__":
    main()
