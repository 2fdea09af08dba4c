"""Films a second of ``bakit score`` beside a plain loop over ``Runtime``, and its memory over time.

    python tests/benchmarks/score_speed.py BUNDLE rsna299
    python tests/benchmarks/score_speed.py BUNDLE rsna299 --limit 11620 --rounds 1
    python tests/benchmarks/score_speed.py BUNDLE rsna299 --simulate 1000000

In turns on the same films: the plain loop on one thread, ``score`` with one and with two workers,
and two plain loops at once, which is what the machine can give two workers. Rates, and CPU time a
film, are those from the moment when each worker has read a film. CPU time is of all processes; it
depends little on what else the machine does. Memory is the resident set of this process and of the
largest worker, at each tenth of a run.

Prints a JSON object on stderr, then a line for each bar with its value; exits with 1 if one is
missed. The bars hold on idle cores. It takes about 80 s at 45 films a second.

``--simulate`` scores films that are not there, each of which is a row at once: the CPU time a film
of the process that hands out films and writes rows, and its memory. ``--engine`` is ``none``
(readers in this process, with pickles), ``local`` or ``ray`` (a cluster that it starts). From this
and ``--rate``, the films a second of one worker, follows what 1 to 1,000 workers do together: their
sum, up to the limit of that process.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from bakit.bundle import Bundle
from bakit.files import sha256
from bakit.runtime import Runtime
from bakit.score.engine import LocalReaders
from bakit.score.row import Options, Row, Scored
from bakit.score.run import score

if TYPE_CHECKING:
    from collections.abc import Collection

    from bakit.score.sources import Film


BARS = {"1 worker": 0.95, "2 workers": 1.8}
"""Least rates over that of the plain loop."""

MOST_GROWTH = 1.05
"""Most memory in the second half of a run over that in the first."""


def main() -> None:
    """Run and print; exit with 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path, help="labelled folder")
    parser.add_argument("--limit", type=int, default=250, help="films")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--simulate", type=int, metavar="FILMS")
    parser.add_argument("--engine", choices=["none", "local", "ray"], default="none")
    parser.add_argument("--rate", type=float, default=50.0, help="films a second of one worker")
    given = parser.parse_args()
    bundle = Bundle.read(given.bundle)
    if given.simulate:
        print(json.dumps(simulated(bundle, given), indent=2))
        return
    films = list(islice(sorted((given.folder / "images").iterdir()), given.limit))
    rates: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, list[list[int]]] = {}
    for _ in range(given.rounds):
        rate, took = plain(bundle, films)
        rates["plain"].append(rate)
        cpu["plain"].append(took)
        for number, name in enumerate(BARS, start=1):
            rate, took, memory[name] = scored(bundle, films, number)
            rates[name].append(rate)
            cpu[name].append(took)
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            halves = pool.map(plain, [bundle] * 2, [films[::2], films[1::2]])
            rates["2 plain loops"].append(sum(rate for rate, _ in halves))
    over = {
        name: statistics.median(a / b for a, b in zip(rates[name], rates["plain"], strict=True))
        for name in rates
    }
    found = {
        "films": len(films),
        "films_per_s": {name: round(statistics.median(rates[name]), 2) for name in rates},
        "cpu_ms_a_film": {name: round(statistics.median(cpu[name]), 2) for name in cpu},
        "memory_mb_self_and_worker": memory,
    }
    print(json.dumps(found), file=sys.stderr)
    print(f"2 plain loops at once: {over['2 plain loops']:.2f} of the plain loop's rate")
    held = [
        show_bar(
            f"{name}: films/s over the plain loop's", f">= {bar}", over[name], over[name] >= bar
        )
        for name, bar in BARS.items()
    ]
    for name, parts in memory.items():
        middle = len(parts) // 2
        early, late = (max(map(sum, half)) for half in (parts[1:middle], parts[middle:]))
        words = f"{name}: memory of the second half over the first's"
        held.append(show_bar(words, f"<= {MOST_GROWTH}", late / early, late / early <= MOST_GROWTH))
    sys.exit(not all(held))


def show_bar(words: str, bar: str, value: float, held: bool) -> bool:
    """Print a bar, its value, and whether it is held."""
    print(f"{words}: bar {bar}, value {value:.3f}, {'held' if held else 'missed'}")
    return held


def plain(bundle: Bundle, films: list[Path]) -> tuple[float, float]:
    """Return films a second of a loop, without the first film, and its CPU time in ms a film."""
    cv2.setNumThreads(1)
    with Runtime(bundle, 1) as runtime:
        runtime.predict(films[0], "F")
        started, cpu = time.perf_counter(), time.process_time()
        for film in films[1:]:
            runtime.predict(film, "F")
        number = len(films) - 1
        took = 1000 * (time.process_time() - cpu) / number
        return number / (time.perf_counter() - started), took


class Watched(LocalReaders):
    """Readers that know which of them have read a film."""

    def __init__(self, *given, workers: int) -> None:
        super().__init__(*given, workers=workers)
        self.ready: set[object] = set()

    def wait(self, busy: Collection[object]) -> tuple[object, list[Scored] | Exception]:
        """Return a reader that is done."""
        reader, found = super().wait(busy)
        if isinstance(found, list) and found:
            self.ready.add(reader)
        return reader, found


def scored(bundle: Bundle, films: list[Path], workers: int) -> tuple[float, float, list[list[int]]]:
    """Return films a second, CPU time in ms a film, and memory in MB at each tenth."""
    times: list[float] = []
    cpu: list[float] = []
    memory: list[list[int]] = []
    opened: list[Watched] = []

    def open_readers(*given) -> Watched:
        opened.append(Watched(*given, workers=workers))
        return opened[0]

    def look(step: str, done: float, total: float | None) -> None:
        if step != "scoring" or not done or not total:
            return
        pids = [process.pid for process in opened[0]._processes.values()]
        if len(opened[0].ready) == workers:
            times.append(time.perf_counter())
            if len(times) == 1 or done == total:
                cpu.append(time.process_time() + sum(map(cpu_s, pids)))
        if done % max(total // 10, 1) == 0:
            memory.append([resident_mb("self"), max(map(resident_mb, pids))])

    with tempfile.TemporaryDirectory(prefix="bakit-speed-") as folder:
        listed = Path(folder, "list.csv")
        listed.write_text("path,sex\n" + "".join(f"{film.absolute()},F\n" for film in films))
        out = Path(folder, "out.csv")
        score([str(listed)], bundle, out, Options(), open_readers, look)
    number = len(times) - 1
    if number < 1:
        sys.exit("the run was over before each worker had read a film; use a larger --limit")
    return number / (times[-1] - times[0]), 1000 * (cpu[-1] - cpu[0]) / number, memory


def cpu_s(process: int) -> float:
    """Return the CPU time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Instant:
    """Readers that read nothing."""

    number, chunk = 1, 16

    def __init__(self, *_: object) -> None:
        self.tasks: list[list[Film]] = []

    def start(self) -> object:
        self.tasks.append([])
        return self

    def send(self, _reader: object, films: list[Film]) -> None:
        self.tasks.append(pickle.loads(pickle.dumps(films)))

    def wait(self, _busy: object) -> tuple[object, list[Scored]]:
        rows = []
        for film in self.tasks.pop(0):
            digest = sha256(film.path)
            row = Row(film.id, "accept", 99.5, 90.1, 110.2, "F", input_sha256=digest)
            rows.append(Scored(row, digest[:32], film.origin))
        return self, pickle.loads(pickle.dumps(rows))

    def close(self) -> None:
        pass


def simulated(bundle: Bundle, given: argparse.Namespace) -> dict[str, object]:
    """Return CPU time of the steps and memory a film, and the films a second of many workers."""
    films, readers = given.simulate, Instant
    if given.engine == "local":
        readers = partial(LocalReaders, workers=1)
    elif given.engine == "ray":
        from ray.cluster_utils import Cluster

        from bakit.score.ray_engine import RayReaders

        os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # on a busy machine
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        readers = partial(RayReaders, address=cluster.address)
    times: dict[str, list[float]] = {}

    def look(step: str, done: float, total: float | None) -> None:
        del done, total
        now = time.process_time()
        times[step] = [times.get(step, [now])[0], now]

    with tempfile.TemporaryDirectory(prefix="bakit-speed-") as folder:
        listed = Path(folder, "list.csv")
        with listed.open("w") as file:
            file.write("path,sex\n")
            file.writelines(f"archive/2020/{n // 1000:05d}/{n:08d}.dcm,F\n" for n in range(films))
        before = resident_mb("self")
        score([str(listed)], bundle, Path(folder, "out.csv"), Options(), readers, look)
        ended = time.process_time()
    took = {step: 1e6 * (end - start) / films for step, (start, end) in times.items()}
    took["table"] = 1e6 * (ended - times["scoring"][1]) / films
    limit = 1e6 / took["scoring"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    return {
        "films": films,
        "cpu_us_a_film": {step: round(us, 1) for step, us in took.items()},
        "bytes_a_film": round(peak * 2**20 / films),
        "films_per_s_limit": round(limit),
        "films_per_s": {n: round(min(n * given.rate, limit)) for n in (1, 10, 100, 300, 1000)},
    }


def resident_mb(process: int | str) -> int:
    """Return the resident set of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4096 // 2**20


if __name__ == "__main__":
    main()
