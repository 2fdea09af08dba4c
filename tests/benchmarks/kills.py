"""Kill export, calibrate, bench and train at random moments: is the old or the new result there?

    python tests/benchmarks/kills.py --kills 200 --signals KILL TERM HUP INT

Each command first runs whole, which gives its duration and what it writes. Then it gets a signal
(with its whole process group) at moments spread at random over that duration, always on top of an
earlier result. After each one what is there must be readable, and either the earlier result or a
new one; TERM, HUP and INT leave no temporary files, and after KILL the next run removes them. A
training gets its signal after its first update, when ``progress.json`` is there, and only signals
that it got while it trained count. It is resumed by the next start; after ten, or when it ended
before the signal, it must have the result of a run that was never killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bakit.bench import read_report
from bakit.bundle import Bundle
from bakit.calib.ranges import read_ranges
from bakit.files import sha256
from bakit.model.checkpoint import Checkpoint
from bakit.phantoms import write_phantoms

if TYPE_CHECKING:
    from collections.abc import Callable

TRAIN = ["--recipe", "scratch", "--image-size", "96", "--epochs", "2", "--batch-size", "16"]
RESUME_EVERY = 10
HIT = "killed while it trained"
PROGRESS = "progress.json"


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
    parser.add_argument("--images", type=int, default=80, help="generated radiographs")
    given = parser.parse_args()
    generator = random.Random(given.seed)  # moments, not secrets
    with tempfile.TemporaryDirectory(prefix="bakit-kills-") as folder:
        root = Path(folder)
        jobs = prepare(root, given.images)
        report = {}
        for name in given.commands:
            for word in given.signals:
                stop = signal.Signals[f"SIG{word}"]
                if name == "train":
                    found = torment_training(root, given.kills, generator, stop)
                else:
                    found = torment(name, jobs[name], given.kills, generator, stop)
                report[f"{name} {word}"] = found
                print(name, word, json.dumps(found), file=sys.stderr)
    print(json.dumps({"seed": given.seed, "jobs": report}, indent=2))
    sys.exit(1 if any(item["broken"] for item in report.values()) else 0)


def prepare(folder: Path, images: int) -> dict[str, Job]:
    """Generate radiographs and a small model, and return the commands."""
    data = folder / "data"
    write_phantoms(data, images, height=96)
    run = folder / "model"
    once(["train", str(data), "--out", str(run), *TRAIN])
    model = str(run / "best.safetensors")
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
        "export": Job(export, out / f"{Path(model).stem}-onnx-int8", Bundle.read, same=True),
        "calibrate": Job(calibrate, ranges, read_ranges, same=True),
        "bench": Job(bench, report, read_report, same=False),
    }


def command(words: list[str]) -> list[str]:
    """Return a command as it is started."""
    return [sys.executable, "-m", "bakit", *words]


def once(words: list[str]) -> float:
    """Run a command to its end and return its duration."""
    started = time.monotonic()
    done = subprocess.run(command(words), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr[-2000:]}")
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
        ended = kill(job.words, moment, stop)
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
        outcomes["ended before" if ended else "old" if after == before else "new"] += 1
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
    root: Path, kills: int, generator: random.Random, stop: signal.Signals
) -> dict[str, object]:
    """Kill a training and resume it, and compare with one that was never killed."""
    whole, run = root / "model" / "best.safetensors", root / "run"
    words = ["train", str(root / "data"), "--out", str(run), *TRAIN, "--resume"]
    duration = training_s(words, run)
    outcomes: Counter[str] = Counter()
    broken = []
    shutil.rmtree(run)
    starts = 0
    while (done := outcomes[HIT]) < kills and not broken:
        starts += 1
        (run / PROGRESS).unlink(missing_ok=True)
        # What is left of a resumed training is shorter.
        moment = generator.uniform(0, duration / (1 + done % RESUME_EVERY))
        ended = kill(words, moment, stop, run / PROGRESS)
        where = f"start {starts}, {moment:.2f} s"
        read = [fault(path, Checkpoint.read) for path in run.glob("*.safetensors")]
        broken += [f"{where}: {error}" for error in read if error]
        if stop != signal.SIGKILL and (left := hidden(run)):
            broken.append(f"{where}: left {left}")
        outcomes["ended before" if ended else HIT] += 1
        if ended or outcomes[HIT] % RESUME_EVERY == 0:
            once(words)
            if digest(run / whole.name) != digest(whole):
                broken.append(f"{where}: the resumed run has another result")
            if left := hidden(run):
                broken.append(f"{where}: left {left} after the next run")
            shutil.rmtree(run)
            outcomes["resumed to the same end"] += 1
        print(f"train: {outcomes[HIT]} of {kills}", end="\r", file=sys.stderr)
    return {
        "kills": kills,
        "duration_s": round(duration, 2),
        "outcomes": dict(outcomes),
        "broken": broken,
    }


def training_s(words: list[str], run: Path) -> float:
    """Return the duration of a whole training from its first update on."""
    process = subprocess.Popen(command(words), stderr=subprocess.DEVNULL, start_new_session=True)
    wait_for(run / PROGRESS, process)
    started = time.monotonic()
    if process.wait():
        sys.exit(f"{' '.join(words)}: exit status {process.returncode}")
    return time.monotonic() - started


def wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    """Return when a file is there, or the process has ended."""
    while not file.exists() and process.poll() is None:
        time.sleep(0.005)


def kill(words: list[str], moment: float, stop: signal.Signals, after: Path | None = None) -> bool:
    """Start a command and signal it at a moment; return whether it had ended by itself.

    Args:
        words: The command.
        moment: Seconds from its start, or from when ``after`` is there.
        stop: The signal.
        after: A file that the command writes.
    """
    process = subprocess.Popen(
        command(words),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if after is not None:
        wait_for(after, process)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, stop)
        process.wait()
        return False
    return True


if __name__ == "__main__":
    main()
