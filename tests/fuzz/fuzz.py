"""Damage inputs at random and hand them to every public entry point.

    python -m tests.fuzz.fuzz --inputs 100000

Each input is made from the seed, the entry point's name and a number, so any of them can be made
again (``--entry png --first 4711 --inputs 1``). A finding is an exception outside ``bakit.errors``,
an input that takes longer than the time limit, a process that dies, or memory that keeps growing.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.fuzz.entries import Entry, attempt, damaged, entries, prepare

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

LIMIT_S = 2
"""Most processor time that one input may take: other processes do not matter."""

HANG_S = 120
"""Most time on the clock, for an input that waits for ever."""

GROWTH_MB = 60
"""Most that a process may grow after its first fifth."""

SHARES = {
    "png": 6,
    "jpeg": 6,
    "dicom": 6,
    "manifest": 4,
    "labels": 3,
    "report": 4,
    "checkpoint": 1,
    "onnx": 3,
}


class Job(NamedTuple):
    """Some inputs of one entry point."""

    name: str
    first: int
    count: int
    seed: int
    limit_s: float = LIMIT_S


def made(job: Job, entry: Entry, index: int) -> bytes:
    """Return an input by its number."""
    return damaged(job.name, entry, random.Random(f"{job.seed}/{job.name}/{index}"))


def work(job: Job, prepared: Path, pipe: Connection) -> None:
    """Try a job's inputs in a process of its own; tell which one is next, then what was found."""
    faulthandler.register(signal.SIGPROF, chain=True)  # it prints where, and the process ends
    with tempfile.TemporaryDirectory(prefix="bakit-fuzz-") as folder:
        entry = entries(prepared, Path(folder))[job.name]
        outcomes: Counter[str] = Counter()
        early = 0
        for index in range(job.first, job.first + job.count):
            pipe.send(("next", index))
            data = made(job, entry, index)
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            signal.setitimer(signal.ITIMER_PROF, job.limit_s)
            try:
                outcomes[attempt(entry, data)] += 1
            except Exception:  # anything else is what is looked for
                outcomes["found"] += 1
                pipe.send(("found", index, traceback.format_exc(limit=-3)))
            signal.setitimer(signal.ITIMER_PROF, 0)
            faulthandler.cancel_dump_traceback_later()
            if index == job.first + job.count // 5:
                early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - early) / 1e3
        pipe.send(("end", dict(outcomes), grown))


def run(job: Job, prepared: Path) -> dict[str, object]:
    """Run a job, starting again behind an input that a process did not survive."""
    started = time.monotonic()
    outcomes: Counter[str] = Counter()
    findings: list[dict[str, object]] = []
    grown_mb, last, left = 0.0, job.first, job
    context = multiprocessing.get_context("spawn")
    while left.count > 0:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(left, prepared, theirs))
        process.start()
        theirs.close()
        ended = False
        while not ended:
            try:
                kind, *message = ours.recv()
            except EOFError:
                break
            if kind == "next":
                last = message[0]
            elif kind == "found":
                findings.append({"input": message[0], "error": message[1]})
            else:
                outcomes.update(message[0])
                grown_mb, ended = max(grown_mb, message[1]), True
        process.join()
        if ended:
            break
        findings.append({"input": last, "error": f"the process ended with {process.exitcode}"})
        done = last + 1 - left.first
        left = left._replace(first=last + 1, count=left.count - done)
    if grown_mb > GROWTH_MB:
        findings.append({"input": None, "error": f"memory grew by {grown_mb:.0f} MB"})
    return {
        "inputs": job.count,
        "first": job.first,
        "outcomes": dict(outcomes),
        "grown_mb": round(grown_mb, 1),
        "seconds": round(time.monotonic() - started, 1),
        "findings": findings,
    }


def main() -> None:
    """Run and print one JSON object; exit with 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="of all entry points together")
    parser.add_argument("--entry", choices=SHARES, action="append", help="only this; repeatable")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--limit-s", type=float, default=LIMIT_S, help="processor time for one input"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bakit-fuzz-") as folder:
        prepared = prepare(Path(folder))
        with tempfile.TemporaryDirectory(prefix="bakit-fuzz-") as trial:
            known = set(entries(prepared, Path(trial)))
        names = [name for name in given.entry or SHARES if name in known]
        whole = sum(SHARES[name] for name in names)
        report = {}
        for name in names:
            count = -(-given.inputs * SHARES[name] // whole)
            report[name] = run(Job(name, given.first, count, given.seed, given.limit_s), prepared)
            print(f"{name}: {json.dumps(report[name])[:300]}", file=sys.stderr)
    total = sum(int(str(item["inputs"])) for item in report.values())
    print(json.dumps({"seed": given.seed, "inputs": total, "entries": report}, indent=2))
    sys.exit(1 if any(item["findings"] for item in report.values()) else 0)


if __name__ == "__main__":
    main()
