"""Flip single bytes all over a bundle's files: is every one refused?

    python tests/benchmarks/byte_flips.py bakit-bundles/bakit-rsna299-onnx-int8

Positions are drawn over all bytes of all files, and as many again evenly over the files, so that
small ones are not left out. The bundle is copied; the original is only read.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from bakit.bundle import Bundle
from bakit.errors import BundleError


def main() -> None:
    """Run and print one JSON object; exit with 1 if a flip was not refused."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--positions", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator = random.Random(given.seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bakit-flips-") as folder:
        root = Path(shutil.copytree(given.bundle, Path(folder) / "bundle"))
        Bundle.read(root)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        tried: Counter[str] = Counter()
        missed = []
        for path, position in draw(files, given.positions, generator):
            bit = 1 << generator.randrange(8)
            name = path.relative_to(root).as_posix()
            tried[name] += 1
            flip(path, position, bit)
            try:
                Bundle.read(root)
                missed.append([name, position, bit])
            except BundleError:
                pass
            flip(path, position, bit)
        Bundle.read(root)
    found = {
        "seed": given.seed,
        "flips": sum(tried.values()),
        "by_file": dict(sorted(tried.items())),
        "not_refused": missed,
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(found, indent=2))
    sys.exit(1 if missed else 0)


def draw(files: list[Path], count: int, generator: random.Random) -> list[tuple[Path, int]]:
    """Return places: half of them alike over all bytes, half alike over the files."""
    sizes = [path.stat().st_size for path in files]
    ends = list(itertools.accumulate(sizes))
    places = []
    for _ in range(count // 2):
        at = generator.randrange(ends[-1])
        index = bisect.bisect_right(ends, at)
        places.append((files[index], at - (ends[index] - sizes[index])))
    for index in range(count - count // 2):
        which = index % len(files)
        places.append((files[which], generator.randrange(sizes[which])))
    return places


def flip(path: Path, position: int, bit: int) -> None:
    """Flip one bit of a file in place."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ bit]))


if __name__ == "__main__":
    main()
