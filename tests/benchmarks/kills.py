"""Kill export, calibrate, bench and train at random moments: is the old or the new result there?

    python tests/benchmarks/kills.py --kills 200 --signals KILL TERM HUP INT

Commands are forked from this process, which has imported torch, so that a kill costs no start-up.
Each command first runs whole, which gives its duration and what it writes. Then it gets a signal
(with its whole process group) at moments spread at random over that duration, always on top of an
earlier result. After each one what is there must be readable, and either the earlier result or a
new one; the exit status must be that of the signal; TERM, HUP and INT leave no temporary files, and
after KILL the next run removes them.

A training gets its signal after its first batch has begun. Its phase at that moment is counted:
only signals in a batch, a validation or the writing of an epoch count as hits. It is resumed by the
next start; after ten hits, or when all epochs had ended, it must have the result of a run that was
never killed. Counts are printed as they come, one line for each command and signal.
"""

from __future__ import annotations

import argparse
import importlib
import json
import mmap
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bakit.bench import read_report
from bakit.bundle import Bundle
from bakit.calib.ranges import read_ranges
from bakit.cli import main as cli
from bakit.files import sha256
from bakit.model.checkpoint import Checkpoint
from bakit.phantoms import write_phantoms
from bakit.training import run
from bakit.training.callbacks import History
from bakit.training.module import Training

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TRAIN = "--recipe scratch --image-size 96 --epochs 6 --batch-size 8 --no-localize --head-layers 1"
TRAIN += " --phantoms 0 --crops 1 --threads 1 --accelerator cpu --learning-rate 0.004 --workers 1"
RESUME_EVERY = 10
PHASES = ("prepare", "batch", "validation", "write an epoch", "final measures")
HITS = PHASES[1:4]
FORK = multiprocessing.get_context("fork")
LOG = Path(tempfile.gettempdir()) / "bakit-kills.log"
"""What the last command printed."""

PHASE = mmap.mmap(-1, 1)
"""Shared with the commands: the index of a training's phase."""


class Job(NamedTuple):
    """A command and how its result is read.

    Attributes:
        words: The command.
        result: The file or folder that it writes.
        read: Reads the result; fails if it is broken.
        same: Whether every whole run gives the same bytes.
    """

    words: list[str]
    result: Path
    read: Callable[[Path], object]
    same: bool


def main() -> None:
    """Run and print one JSON object; exit with 1 if a result was broken."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="of each command and signal")
    parser.add_argument("--signals", nargs="+", default=["KILL"], help="such as KILL TERM HUP INT")
    parser.add_argument("--commands", nargs="+", default=["export", "calibrate", "bench", "train"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=80, help="generated radiographs, at least 46")
    given = parser.parse_args()
    generator = random.Random(given.seed)  # moments, not secrets
    watch_phases()
    with tempfile.TemporaryDirectory(prefix="bakit-kills-") as folder:
        root = Path(folder)
        jobs = prepare(root, given.images)
        report = {}
        stops = [signal.Signals[f"SIG{word}"] for word in given.signals]
        for name in given.commands:
            if name == "train":
                found = {"train": torment_training(root, given.kills, generator, stops)}
            else:
                found = {
                    f"{name} {stop.name}": torment(name, jobs[name], given.kills, generator, stop)
                    for stop in stops
                }
            report |= found
            print(json.dumps(found), file=sys.stderr, flush=True)
    print(json.dumps({"seed": given.seed, "jobs": report}, indent=2))
    sys.exit(1 if any(item["broken"] for item in report.values()) else 0)


def prepare(folder: Path, images: int) -> dict[str, Job]:
    """Generate radiographs and a small model, and return the commands."""
    data = folder / "data"
    write_phantoms(data, images, height=96)
    out = folder / "model"
    once(["train", str(data), "--out", str(out), *TRAIN.split()])
    model = str(out / "best.safetensors")
    bundles = folder / "bundles"
    once(["export", model, "--target", "onnx", "--out", str(bundles)])
    (bundle,) = bundles.iterdir()
    out, ranges, report = folder / "exported", folder / "ranges.json", folder / "report.json"
    export = ["export", model, "--target", "onnx", "--int8", "--out", str(out)]
    bench = ["bench", str(bundle), "--queries", "20", "--seconds", "0", "--json", str(report)]
    calibrate = [
        "calibrate",
        str(data),
        "--checkpoint",
        model,
        "--samples",
        "32",
        "--out",
        str(ranges),
    ]
    return {
        "export": Job(export, out / bundle.name.replace("fp32", "int8"), Bundle.read, same=True),
        "calibrate": Job(calibrate, ranges, read_ranges, same=True),
        "bench": Job(bench, report, read_report, same=False),
    }


def watch_phases() -> None:
    """Import what the commands need, and make a training write its phase."""
    for name in ("export", "calibrate", "bench", "train"):
        importlib.import_module(f"bakit.cli.{name}")
    for name in ("onnxruntime", "bakit.training.run", "bakit.backends.ort", "bakit.export.ort"):
        importlib.import_module(name)

    def mark(owner: Any, name: str, phase: str) -> None:
        call = getattr(owner, name)

        def marked(*words: Any, **named: Any) -> Any:
            PHASE[0] = PHASES.index(phase)
            return call(*words, **named)

        setattr(owner, name, marked)

    mark(Training, "training_step", "batch")
    mark(Training, "validation_step", "validation")
    mark(History, "on_train_epoch_end", "write an epoch")
    mark(run, "save_figures", "final measures")


def start(words: list[str]) -> Any:
    """Start a command in a process group of its own."""
    PHASE[0] = 0
    process = FORK.Process(target=_command, args=(words,))
    process.start()
    while os.getpgid(process.pid) != process.pid:  # until its group can be signalled
        time.sleep(0.001)
    return process


def _command(words: list[str]) -> None:
    os.setsid()
    sink = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    cli(words)


def once(words: list[str]) -> float:
    """Run a command to its end and return its duration."""
    started = time.monotonic()
    process = start(words)
    process.join()
    if process.exitcode:
        sys.exit(f"{' '.join(words)}: {LOG.read_text()[-2000:]}")
    return time.monotonic() - started


def digest(result: Path) -> str:
    """Return what tells one result from another."""
    files = sorted(result.rglob("*")) if result.is_dir() else [result]
    return sha256(b"".join(path.read_bytes() for path in files if path.is_file()))


def fault(result: Path, read: Callable[[Path], object]) -> str:
    """Return what is wrong with a result, nothing if it is whole."""
    try:
        read(result)
    except Exception as error:  # whatever a broken result may raise
        return f"{type(error).__name__}: {error}"
    return ""


def torment(
    name: str, job: Job, kills: int, generator: random.Random, stop: signal.Signals
) -> dict[str, object]:
    """Kill a command again and again, and look at what it leaves."""
    duration = once(job.words)
    first = digest(job.result)
    outcomes: Counter[str] = Counter()
    broken = []
    for index in range(kills):
        before = digest(job.result)
        moment = generator.uniform(0, duration)
        ended, status = kill(job.words, moment, stop)
        if wrong(status, stop):
            broken.append(f"kill {index} at {moment:.2f} s: exit status {status}")
        if stop != signal.SIGKILL and (left := hidden(job.result.parent)):
            broken.append(f"kill {index} at {moment:.2f} s: left {left}")
        error = fault(job.result, job.read)
        if error:
            broken.append(f"kill {index} at {moment:.2f} s: {error}")
            once(job.words)
            continue
        after = digest(job.result)
        if job.same and after != first:
            broken.append(f"kill {index} at {moment:.2f} s: neither the old nor the new result")
        outcomes[ended or ("old" if after == before else "new")] += 1
        print(f"{name}: {index + 1} of {kills}", end="\r", file=sys.stderr)
    left = hidden(job.result.parent)
    once(job.words)
    if still := hidden(job.result.parent):
        broken.append(f"left after the next run: {still}")
    return {
        "kills": kills,
        "duration_s": round(duration, 2),
        "outcomes": dict(outcomes),
        "temporary_files_before_the_next_run": len(left),
        "broken": broken,
    }


def hidden(folder: Path) -> list[str]:
    """Return the temporary files and folders in a folder."""
    return sorted(path.name for path in folder.rglob(".bakit-*"))


def torment_training(
    root: Path, kills: int, generator: random.Random, stops: Sequence[signal.Signals]
) -> dict[str, object]:
    """Kill a training and resume it, and compare with one that was never killed.

    The signals are drawn at random, ``kills`` hits of each on average.
    """
    whole, folder = root / "model" / "best.safetensors", root / "run"
    words = ["train", str(root / "data"), "--out", str(folder), *TRAIN.split(), "--resume"]
    duration = training_s(words)
    phases: Counter[str] = Counter()
    same = starts = 0
    broken = []
    shutil.rmtree(folder)
    while (hits := _hits(phases)) < kills * len(stops) and len(broken) < RESUME_EVERY:
        stop = generator.choice(stops)
        starts += 1
        moment = generator.uniform(0, duration / 4)  # so that ten fit into one run
        ended, status = kill(words, moment, stop, trains=True)
        where = f"start {starts}, {moment:.2f} s, {PHASES[PHASE[0]]}"
        phases[f"{stop.name} {ended or PHASES[PHASE[0]]}"] += 1
        if wrong(status, stop):
            broken.append(f"{where}: exit status {status}")
        read = [fault(path, Checkpoint.read) for path in folder.glob("*.safetensors")]
        broken += [f"{where}: {error}" for error in read if error]
        if stop != signal.SIGKILL and (left := hidden(folder)):
            broken.append(f"{where}: left {left}")
        trained = PHASES[PHASE[0]] not in HITS
        if ended or trained or (_hits(phases) % RESUME_EVERY == 0 and _hits(phases) > hits):
            once(words)
            if digest(folder / whole.name) != digest(whole):
                broken.append(f"{where}: the resumed run has another result")
            if left := hidden(folder):
                broken.append(f"{where}: left {left} after the next run")
            shutil.rmtree(folder)
            same += 1
        print(f"train: {json.dumps([*broken, phases])}", file=sys.stderr, flush=True)
    return {
        "starts": starts,
        "hits": _hits(phases),
        "duration_s": round(duration, 2),
        "phases": dict(phases),
        "resumed to the same end": same,
        "broken": broken,
    }


def _hits(phases: Counter[str]) -> int:
    return sum(count for name, count in phases.items() if name.partition(" ")[2] in HITS)


def wrong(status: int, stop: signal.Signals) -> bool:
    """Return whether an exit status is neither that of a whole run nor that of the signal."""
    # Before the command's first line and after its last one, Python's own answer is right.
    return status not in {0, -stop, 128 + stop}


def training_s(words: list[str]) -> float:
    """Return the duration of a whole training from its first batch on."""
    process = start(words)
    wait_for_batch(process)
    started = time.monotonic()
    process.join()
    if process.exitcode:
        sys.exit(f"{' '.join(words)}: {LOG.read_text()[-2000:]}")
    return time.monotonic() - started


def wait_for_batch(process: Any) -> None:
    """Return when a training has begun a batch, or the process has ended."""
    while not PHASE[0] and process.is_alive():
        time.sleep(0.005)


def kill(
    words: list[str], moment: float, stop: signal.Signals, *, trains: bool = False
) -> tuple[str, int]:
    """Start a command and signal it at a moment.

    Args:
        words: The command.
        moment: Seconds from its start, or from its first batch if it ``trains``.
        stop: The signal.
        trains: Whether it is a training.

    Returns:
        ``ended before`` the signal, ``ended in spite of it``, or nothing; and the exit status.
    """
    process = start(words)
    if trains:
        wait_for_batch(process)
    process.join(moment)
    if not process.is_alive():
        return "ended before", process.exitcode
    os.killpg(process.pid, stop)
    process.join(600)
    if process.is_alive():
        process.kill()
        process.join()
        return "", 600
    return "ended in spite of it" if process.exitcode == 0 else "", process.exitcode


if __name__ == "__main__":
    main()
