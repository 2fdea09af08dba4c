"""Attack every door of bakit, and count by area what survives.

    make attack            # or: python -m tests.fuzz.attacks --tries 30

An attack survives if it ends in anything but bakit's own error or an ordinary answer: another
exception, a process that dies or does not end, a file outside of its folder. Where an attack has to
be refused (``Attack.refused``), being taken counts as survival, too. Damaged inputs (images, DICOM,
labels, reports, checkpoints, models) are those of ``tests.fuzz.entries``.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bakit.errors import BakitError
from bakit.runtime import Runtime
from tests.fuzz.doors import (
    LIMIT_S,
    Attack,
    Attacks,
    archives,
    bundle_paths,
    host_strings,
    phone_server,
    sealed_files,
    signatures,
    ssh_answers,
)
from tests.fuzz.entries import Entry, damaged, entries, prepare

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


def arrays(prepared: Path) -> Attacks:
    """Arrays and other objects instead of an image."""
    runtime = Runtime(prepared / "bundle", threads=1)
    shapes = [
        (),
        (0,),
        (9,),
        (0, 0),
        (1, 1),
        (0, 300),
        (300, 0),
        (2, 2, 2),
        (9, 9, 9, 9),
        (64, 64, 7),
    ]
    odd: list[Any] = [np.zeros(shape, np.float32) for shape in shapes]
    odd += [np.full((200, 160), value, np.float32) for value in (np.nan, np.inf, -np.inf, 1e38, -1)]
    odd += [
        np.zeros((200, 160), dtype) for dtype in ("c8", "?", "U4", "O", "M8[s]", "i8", "f2", "f8")
    ]
    odd += [np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (10**6, 10**6), (0, 0))]
    odd += [None, 7, "", "no-such-file.png", b"", b"\x89PNG", [[1]], {}, Path("/dev/null"), Path()]
    odd += [
        Path("/proc/self/mem"),
        "\0",
        "x" * 5000,
        "/dev/zero",
        prepared,
        object(),
        memoryview(b"x"),
    ]
    return [
        Attack(f"array {i}: {type(item).__name__}", lambda x=item: runtime.predict(x, "F"), False)
        for i, item in enumerate(odd)
    ]


def commands(work: Path) -> Attacks:
    """Commands under signals and limits: one line, no traceback, nothing left behind."""

    def run(code: str, words: str, stop: int | None = None, wait_s: float = 0.0) -> None:
        place = Path(tempfile.mkdtemp(dir=work))
        process = subprocess.Popen(
            [sys.executable, "-c", f"{code}\nfrom bakit.cli import main\nmain()", *words.split()],
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if stop is not None:
            time.sleep(wait_s)
            process.send_signal(stop)
        _, error = process.communicate(timeout=LIMIT_S)
        # Before bakit's first line runs, a signal is Python's own affair.
        if "Traceback" in error and "bakit" in error:
            raise AssertionError(error[-800:])
        if left := [str(path) for path in place.rglob(".*")]:
            raise AssertionError(str(left))

    limits = {
        "no room for a file": "resource.RLIMIT_FSIZE, (9000, 9000)",
        "few open files": "resource.RLIMIT_NOFILE, (40, 40)",
        "no core": "resource.RLIMIT_CORE, (0, 0)",
    }
    phantoms = "phantoms --out out -n 40 --height 300"
    found = [
        Attack(
            name, lambda c=f"import resource; resource.setrlimit({value})": run(c, phantoms), False
        )
        for name, value in limits.items()
    ]
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
    for stop in signals:
        for wait_s in (0.6, 1.2, 2.4):
            call = lambda s=stop, w=wait_s: run("", phantoms, s, w)  # noqa: E731
            found.append(Attack(f"{stop.name} after {wait_s} s", call, False))
    return found


def damaged_inputs(name: str, entry: Entry, tries: int, seed: int) -> Attacks:
    """Inputs that were damaged at random."""
    return [
        Attack(
            f"{name} {index}",
            lambda i=index: entry.call(damaged(name, entry, random.Random(f"{seed}/{name}/{i}"))),
            False,
        )
        for index in range(tries)
    ]


def areas(prepared: Path, work: Path, tries: int, seed: int) -> dict[str, Callable[[], Any]]:
    """Return what makes the attacks of each area.

    Args:
        prepared: What ``tests.fuzz.entries.prepare`` made.
        work: An empty folder.
        tries: Random tries of each area that has them.
        seed: Seed of the random ones.
    """
    draw = random.Random(seed)
    found: dict[str, Callable[[], Any]] = {
        "bundle paths": lambda: bundle_paths(prepared, work),
        "sealed files": lambda: sealed_files(prepared, work),
        "archives": lambda: archives(work),
        "signatures": lambda: signatures(prepared, work, tries),
        "arrays": lambda: arrays(prepared),
        "phone server": lambda: phone_server(tries, draw),
        "ssh answers": lambda: ssh_answers(tries, draw),
        "host strings": host_strings,
        "signals and limits": lambda: commands(work),
    }
    doors = entries(prepared, work)
    for name, entry in doors.items():
        found[name] = lambda n=name, e=entry: damaged_inputs(n, e, tries, seed)
    return found


def survives(attack: Attack) -> str:
    """Try an attack; return what it achieved, nothing if it was parried."""
    try:
        attack.call()
    except BakitError:
        return ""
    except Exception:  # anything else is what is looked for
        return f"{attack.name}: {traceback.format_exc(limit=-2)}"
    return f"{attack.name}: taken" if attack.refused else ""


def main() -> None:
    """Print tries and survivors by area; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=30, help="random ones of each area")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--areas", nargs="+", help="only these")
    given = parser.parse_args()
    tried: Counter[str] = Counter()
    survivors: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="bakit-attacks-") as folder:
        work = Path(folder)
        (work / "prepared").mkdir()
        prepared = prepare(work / "prepared")
        for area, make in areas(prepared, work, given.tries, given.seed).items():
            if given.areas and area not in given.areas:
                continue
            survivors[area] = []
            for attack in make():
                tried[area] += 1
                survivors[area] += filter(None, [survives(attack)])
            print(f"{area:20} {tried[area]:5} tries {len(survivors[area]):4} survivors", flush=True)
            for line in survivors[area]:
                print(line, file=sys.stderr)
    total = sum(map(len, survivors.values()))
    print(f"{'all areas':20} {tried.total():5} tries {total:4} survivors")
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
