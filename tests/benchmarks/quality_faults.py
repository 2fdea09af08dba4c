"""Cuts, frames and turns on real films: python tests/benchmarks/quality_faults.py CHECKPOINT DATA.

DATA has the folders originals, masked, official_test and rsna299. Prints what is accepted, reviewed
and rejected of cut and of framed originals, the change of their age, turned films, and the false
alarms on whole sets, with the coverage of the intervals.
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bakit.data.labels import read_samples
from bakit.data.splits import known_split
from bakit.image.read import decode
from bakit.model.checkpoint import Checkpoint
from bakit.runtime import Runtime
from bakit.studies.evaluate.run import as_bundle

if TYPE_CHECKING:
    from bakit.data.labels import Sample
    from bakit.image.box import Box
    from bakit.prediction import Prediction
    from bakit.types import Grey

CUTS = {
    "fingers": lambda b: (b.x0, b.y0 + round(0.45 * b.height), b.x1, b.y1),
    "wrist": lambda b: (b.x0, b.y0, b.x1, b.y0 + round(0.6 * b.height)),
    "left 40 %": lambda b: (b.x0 + round(0.4 * b.width), b.y0, b.x1, b.y1),
    "right 40 %": lambda b: (b.x0, b.y0, b.x1 - round(0.4 * b.width), b.y1),
    "tips 12 %": lambda b: (b.x0, b.y0 + round(0.12 * b.height), b.x1, b.y1),
}
FILLS = {"black": 0.0, "white": 1.0, "middle grey": 0.5}


def cut(grey: Grey, box: Box, part: str, fill: float, way: str) -> Grey:
    """Return a film with a part of the hand's box left."""
    x0, y0, x1, y1 = CUTS[part](box)
    kept = grey[y0:y1, x0:x1]
    if way == "at the edge":
        return np.ascontiguousarray(kept)
    if way == "margin":
        return np.pad(kept, round(0.15 * max(kept.shape)), constant_values=np.float32(fill))
    whole = np.full_like(grey, fill)
    whole[y0:y1, x0:x1] = kept
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int, default=10**6, help="films of each whole set")
    options = parser.parse_args()
    checkpoint = Checkpoint.read(options.checkpoint)
    originals = read_samples(options.data / "originals")
    with as_bundle(checkpoint) as bundle, Runtime(bundle, 1) as runtime:

        def predict(image: Grey | Path, sample: Sample) -> Prediction:
            sex = "M" if sample.male else "F"
            return runtime.predict(image, sex, allow_rejected=True)

        films = [(sample, decode(sample.path)) for sample in originals]
        first = [predict(grey, sample) for sample, grey in films]
        print("uncut", Counter(p.quality.status for p in first))
        for part in CUTS:
            for way, fill in product(("at the edge", "in place", "margin"), FILLS):
                found = Counter(
                    predict(cut(grey, p.box, part, FILLS[fill], way), sample).quality.status
                    for (sample, grey), p in zip(films, first, strict=True)
                )
                print(f"cut {part}, {way}, {fill}:", dict(found))
        for share, fill in product((0.05, 0.1, 0.2), ("black", "film grey")):
            found = []
            for (sample, grey), before in zip(films, first, strict=True):
                value = 0.0 if fill == "black" else float(np.median(grey))
                width = round(share * max(grey.shape))
                framed = np.pad(grey, width, constant_values=np.float32(value))
                after = predict(framed, sample)
                found.append((after.quality.status, abs(after.age_months - before.age_months)))
            changes = np.array([change for _, change in found])
            counts = dict(Counter(status for status, _ in found))
            print(f"air {share:.0%} {fill}: {counts}, age changes {changes.mean():.2f} months")
        for turn in (1, 2, 3):
            changes, counts = [], Counter()
            for (sample, grey), before in zip(films, first, strict=True):
                after = predict(np.ascontiguousarray(np.rot90(grey, -turn)), sample)
                counts[f"{after.quality.status}, turned by {after.turned_degrees}"] += 1
                changes.append(abs(after.age_months - before.age_months))
            print(f"turned {90 * turn}: {dict(counts)}, age changes {np.mean(changes):.2f} months")
        parts = known_split(
            read_samples(options.data / "rsna299"), checkpoint.header.training.split
        )
        sets = {"rsna299 test part": parts.test if parts else ()}
        sets |= {name: read_samples(options.data / name) for name in ("official_test", "masked")}
        for name, samples in sets.items():
            whole(name, [(s, predict(s.path, s)) for s in samples[: options.limit]])


def whole(name: str, rows: list[tuple[Sample, Prediction]]) -> None:
    """Print the rates of a set."""
    counts = Counter(p.quality.status for _, p in rows)
    reasons = Counter(code for _, p in rows for code in p.quality.reasons)
    errors = [abs(p.age_months - s.age_months) for s, p in rows]
    line = f"{name}, {len(rows)}: {dict(counts)}, MAE {np.mean(errors):.2f}, {dict(reasons)}"
    bounds = [(s.age_months, p.interval_months) for s, p in rows if p.interval_months]
    if bounds:
        inside = np.mean([low <= age <= high for age, (low, high) in bounds])
        line += f", inside the interval {inside:.1%}"
    print(line)


if __name__ == "__main__":
    main()
