"""``--engine ray`` of score and evaluate on a local cluster of three nodes, of which one is killed.

    python tests/benchmarks/score_ray.py BUNDLE rsna299 --limit 400

The same films are scored by as many local processes first, and ``bakit evaluate`` reads the folder
on this machine and on the nodes that are left. Prints one JSON object: films a second of both, rows
that differ in anything but seconds, and whether evaluate printed the same; exits with 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec
from click.testing import CliRunner
from ray.cluster_utils import Cluster

from bakit.bundle import Bundle
from bakit.cli import main as cli
from bakit.score.engine import LocalReaders
from bakit.score.ray_engine import RayReaders
from bakit.score.row import Options, Row
from bakit.score.run import score


def main() -> None:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path, help="labelled folder")
    parser.add_argument("--limit", type=int, default=400, help="films")
    parser.add_argument("--copies", type=int, default=1, help="times that each film is listed")
    parser.add_argument("--kill-after", type=int, default=100, help="rows; 0: no kill")
    given = parser.parse_args()
    bundle = Bundle.read(given.bundle)
    films = list(islice(sorted((given.folder / "images").iterdir()), given.limit))
    with tempfile.TemporaryDirectory(prefix="bakit-ray-") as folder:
        listed = Path(folder, "list.csv")
        names = [(film.absolute(), number) for number in range(given.copies) for film in films]
        lines = (f"{film},{film.stem}-{number},F\n" for film, number in names)
        listed.write_text("path,id,sex\n" + "".join(lines))
        words = [str(given.folder), "--bundle", str(given.bundle), "--limit", str(given.limit)]
        found = compare(bundle, str(listed), Path(folder), given.kill_after, words)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found["different_rows"] or not found["same_evaluation"] else 0)


def compare(
    bundle: Bundle, source: str, folder: Path, kill_after: int, words: list[str]
) -> dict[str, object]:
    """Score the films of a list on this machine and on a cluster, and compare; evaluate as well."""
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")  # on a busy machine
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    killed = threading.Event()

    def look(step: str, done: float, total: float | None) -> None:
        del total
        if step == "scoring" and kill_after and done >= kill_after and not killed.is_set():
            killed.set()
            cluster.remove_node(nodes[0], allow_graceful=False)

    tables, rates = {}, {}
    engines = {
        "local": partial(LocalReaders, workers=3),
        "ray": partial(RayReaders, workers=3, address=cluster.address),
    }
    for name, readers in engines.items():
        out = folder / f"{name}.jsonl"
        started = time.monotonic()
        progress = (look,) if name == "ray" else ()
        summary = score([source], bundle, out, Options(), readers, *progress)
        rates[f"{name}_films_per_s"] = round(summary.films / (time.monotonic() - started), 2)
        lines = out.read_bytes().splitlines()
        tables[name] = [strip(msgspec.json.decode(line, type=Row)) for line in lines]
    ray = ["--engine", "ray", "--address", cluster.address]
    evaluated = [evaluation(*words, "--workers", "1"), evaluation(*words, *ray)]
    cluster.shutdown()
    different = sum(a != b for a, b in zip(*tables.values(), strict=True))
    return {
        "films": len(tables["ray"]),
        "killed": killed.is_set(),
        **rates,
        "different_rows": different,
        "same_evaluation": evaluated[0] == evaluated[1],
    }


def evaluation(*words: str) -> str:
    """Return what ``bakit evaluate`` prints."""
    done = CliRunner().invoke(cli, ["evaluate", *words, "--part", "all"])
    assert done.exit_code == 0, done.output
    return done.stdout


def strip(row: Row) -> Row:
    """Return a row without its time."""
    return msgspec.structs.replace(row, seconds=0.0)


if __name__ == "__main__":
    main()
