"""Predict films with bundles, on an emulated device or here.

    python3 ages.py FILMS BUNDLE... [--limit N] [--whole] >> ages.jsonl

``FILMS`` is a labelled folder. Each film gets one line of JSON as soon as all bundles have
predicted it: ``id`` and ``ages`` in months by the bundle's name. Bundles of one target share the
crop. Films that ``--skip FILE`` has are left out, so that a run can be continued.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path

from bakit import Runtime
from bakit.data.labels import read_samples
from bakit.data.splits import thin
from bakit.image.read import decode


def main() -> None:
    """Print a line for each film."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("films", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--whole", action="store_true", help="use the whole graph")
    parser.add_argument("--skip", type=Path, help="lines of an earlier run")
    given = parser.parse_args()
    done = set()
    if given.skip is not None and given.skip.exists():
        done = {json.loads(line)["id"] for line in given.skip.read_text().splitlines()}
    with ExitStack() as stack:
        runtimes = [
            stack.enter_context(Runtime(bundle, threads=1, whole=given.whole))
            for bundle in given.bundles
        ]
        print([runtime.provider for runtime in runtimes], file=sys.stderr, flush=True)
        for sample in thin(read_samples(given.films), given.limit):
            if sample.id in done:
                continue
            ages, crops = {}, {}
            for runtime in runtimes:
                name, target = runtime.bundle.name, runtime.bundle.manifest.target
                if given.whole:
                    sex = "M" if sample.male else "F"
                    found = runtime.predict(sample.path, sex, allow_rejected=True)
                    ages[f"{name}-whole"] = found.age_months
                    continue
                if target not in crops:
                    crops[target] = runtime.prepare(decode(sample.path)).pixels
                ages[name] = runtime.regress(crops[target], male=sample.male)
            print(json.dumps({"id": sample.id, "ages": ages}), flush=True)


if __name__ == "__main__":
    main()
