"""Kill ``bakit score`` at random moments, again and again: is every film one row at the end?

    python tests/benchmarks/score_kills.py BUNDLE rsna299 --limit 400 --kills 50

SIGKILL goes to the whole process group, at a random moment after the journal has grown, or while
it starts. The rows are compared with those of a run that was never killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path

import msgspec

from bakit.score.row import Row


def main() -> None:
    """Run and print one JSON object; exit with 1 if a row is lost, doubled or different."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path, help="labelled folder")
    parser.add_argument("--limit", type=int, default=400, help="films")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    generator = random.Random(given.seed)  # moments, not secrets
    films = list(islice(sorted((given.folder / "images").iterdir()), given.limit))
    with tempfile.TemporaryDirectory(prefix="bakit-kills-") as folder:
        listed = Path(folder, "list.csv")
        listed.write_text("path,sex\n" + "".join(f"{film.absolute()},F\n" for film in films))
        words = ["score", str(listed), "--bundle", str(given.bundle)]
        command = [sys.executable, "-m", "bakit", *words, "--workers", str(given.workers)]
        whole, out = Path(folder, "whole.jsonl"), Path(folder, "out.jsonl")
        subprocess.run([*command, "--out", str(whole)], check=True, stdout=subprocess.DEVNULL)
        journal = out.with_name("out.jsonl.journal")
        found: Counter[str] = Counter()
        for number in range(given.kills):
            wanted = 1 + number * len(films) // given.kills
            found[kill([*command, "--out", str(out)], journal, wanted, generator)] += 1
            print(f"{number + 1} of {given.kills}", end="\r", file=sys.stderr)
        subprocess.run([*command, "--out", str(out)], check=True, stdout=subprocess.DEVNULL)
        lines = journal.read_bytes().splitlines()[1:]
        ids = Counter(msgspec.json.decode(line)[0]["id"] for line in lines)
        faults = {
            "lost": len(films) - len(ids),
            "doubled": sum(count > 1 for count in ids.values()),
            "different": sum(a != b for a, b in zip(rows(whole), rows(out), strict=True)),
        }
    print(json.dumps({"films": len(films), "kills": dict(found)} | faults, indent=2))
    sys.exit(1 if any(faults.values()) else 0)


def kill(command: list[str], journal: Path, wanted: int, generator: random.Random) -> str:
    """Start a run and kill it at a random moment after its journal has some lines."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    start = generator.random() < 0.2  # some before the first film
    while process.poll() is None and not (start and journal.exists()):
        if journal.exists() and journal.read_bytes().count(b"\n") > wanted:
            break
        time.sleep(0.002)
    time.sleep(generator.uniform(0, 0.05))
    if process.poll() is not None:
        return "ended before"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    torn = not journal.read_bytes().endswith(b"\n")
    return "killed, last line torn" if torn else "killed"


def rows(table: Path) -> list[Row]:
    """Return rows without their times."""
    found = [msgspec.json.decode(line, type=Row) for line in table.read_bytes().splitlines()]
    return [msgspec.structs.replace(row, seconds=0.0) for row in found]


if __name__ == "__main__":
    main()
