"""Send films to a node from several associations, with dcmtk's programs; count the reports.

    python tests/benchmarks/node_load.py BUNDLE --films 500 --senders 8 --kills 2

Every film is a phantom with its own SOPInstanceUID. With ``--kills``, the node gets SIGKILL at
moments spread over the run, and is started again; a film that was not acknowledged is sent again,
as a modality does. At the end each film must have one report at storescp.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pydicom

from bakit.phantoms import make_phantom
from tests.test_dicom import dataset, stored
from tests.test_node import free_port, listens, node_process, wait_until

KINDS = 16
"""Different phantoms; drawing each film would take longer than reading it."""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--films", type=int, default=500)
    parser.add_argument("--senders", type=int, default=8)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--kills", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bakit-node-") as folder:
        measure(asked, Path(folder))


def measure(asked: argparse.Namespace, folder: Path) -> None:
    """Send all films and print what came of it."""
    files = write_films(folder / "films", asked.films, asked.height)
    peer_port, port, web_port = free_port(), free_port(), free_port()
    (folder / "pacs").mkdir()
    words = ["storescp", "-q", "--fork", "-aet", "PACS", "-od", folder / "pacs", str(peer_port)]
    peer = subprocess.Popen(list(map(str, words)))
    wait_until(lambda: listens(peer_port))
    nodes = [Running(folder / "spool", asked.bundle, peer_port, port, web_port)]
    started = time.monotonic()
    with ThreadPoolExecutor(asked.senders) as pool:
        sent = [pool.submit(send, port, files[n :: asked.senders]) for n in range(asked.senders)]
        for kill in range(asked.kills):
            share = (kill + 1) / (asked.kills + 1)
            wait_until(lambda share=share: done(folder) >= share * len(files), 3600)
            nodes[-1].end(signal.SIGKILL)
            nodes.append(Running(folder / "spool", asked.bundle, peer_port, port, web_port))
        again = sum(future.result() for future in sent)
    received = time.monotonic() - started
    wait_until(lambda: done(folder) == len(files), 3600)
    seconds = time.monotonic() - started
    with urllib.request.urlopen(f"http://127.0.0.1:{web_port}/metrics") as answer:
        metrics = answer.read().decode()
    nodes[-1].end(signal.SIGTERM)
    print_times(metrics)
    peer.terminate()
    peer.wait()
    reports = [pydicom.dcmread(path) for path in (folder / "pacs").iterdir()]
    answered = Counter(
        report.CurrentRequestedProcedureEvidenceSequence[0]
        .ReferencedSeriesSequence[0]
        .ReferencedSOPSequence[0]
        .ReferencedSOPInstanceUID
        for report in reports
    )
    doubled = sum(count > 1 for count in answered.values())
    print(f"{len(files)} films, {asked.senders} senders, {asked.kills} kills, {again} sent again")
    print(f"acknowledged after {received:.1f} s, all reports at the peer after {seconds:.1f} s")
    print(f"reports {len(reports)}, lost {len(files) - len(answered)}, doubled {doubled}")
    if shutil.which("dciodvfy"):
        print_faults(sorted((folder / "pacs").iterdir()))


def print_faults(reports: list[Path]) -> None:
    """Print the errors and warnings that dciodvfy finds in all reports."""
    found: Counter[str] = Counter()
    for path in reports:
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        found.update(line for line in done.stderr.splitlines() if line[:5] in {"Error", "Warni"})
        found["exit status not 0"] += done.returncode != 0
    errors = sum(number for line, number in found.items() if not line.startswith("Warning"))
    print(f"dciodvfy on {len(reports)} reports: {errors} errors, {found.total() - errors} warnings")
    for line, number in (+found).most_common():
        print(f"  {number} x {line}")


class Running:
    """A node whose log is read, so that its pipe never fills, for the times of its films."""

    def __init__(self, root: Path, bundle: Path, peer_port: int, port: int, web_port: int) -> None:
        self.process = node_process(root, bundle, peer_port, port, web_port=web_port, workers=2)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        """Take the times from the log."""
        found = re.findall(r", ([\d.]+) s after the radiograph", self.process.stderr.read())
        TIMES.extend(map(float, found))

    def end(self, number: int) -> None:
        """Send a signal and wait."""
        self.process.send_signal(number)
        self.process.wait()
        self.thread.join()
        self.process.stderr.close()


TIMES: list[float] = []


def print_times(metrics: str) -> None:
    """Print percentiles of the times from the last byte to the delivered report."""
    ordered = sorted(TIMES)
    if ordered:
        middle, late = (ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.95))
        print(f"from the last byte to the delivered report: p50 {middle:.2f} s, p95 {late:.2f} s")
    for line in metrics.splitlines():
        if line.startswith(("bakit_node_read_seconds_sum", "bakit_node_read_seconds_count")):
            print(line)


def write_films(folder: Path, count: int, height: int) -> list[Path]:
    """Write films with different UIDs."""
    folder.mkdir()
    images = [make_phantom(seed, height=height, nuisances=()).image for seed in range(KINDS)]
    files = []
    for index in range(count):
        data = dataset(images[index % KINDS])
        uid = f"1.2.826.0.1.3680043.10.999.{index + 1}"
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid
        files.append(folder / f"{index}.dcm")
        files[-1].write_bytes(stored(data))
    return files


def send(port: int, files: list[Path]) -> int:
    """Send films in one association; return how many were sent again after a failure."""
    waiting, again = list(files), 0
    while waiting:
        words = ["storescu", "-v", "-aec", "BAKIT", "127.0.0.1", str(port), *map(str, waiting)]
        sent = subprocess.run(words, capture_output=True, text=True, check=False)
        stored_now = (sent.stdout + sent.stderr).count("(Success)")
        waiting = waiting[stored_now:]
        again += len(waiting)
        time.sleep(0.2 if waiting else 0)
    return again


def done(folder: Path) -> int:
    """Return how many films are answered."""
    return sum(1 for _ in (folder / "spool/done").iterdir())


if __name__ == "__main__":
    sys.exit(main())
