"""Send films to a node from several associations, with dcmtk's programs; count the reports.

    python -m tests.benchmarks.node_load BUNDLE --films 500 --senders 8
    python -m tests.benchmarks.node_load BUNDLE --faults garbage,kill,disk,peer
    python -m tests.benchmarks.node_load BUNDLE --films 60 --senders 1 --every 2

Every film is a phantom with its own SOPInstanceUID. The faults come one after the other, while
films arrive: ``kill``: the node gets SIGKILL and is started again; ``peer``: storescp is down for
20 s; ``garbage``: 20 connections of random bytes; ``disk`` (as root): the spool's disk, a tmpfs, is
full for 10 s. A film that was not acknowledged is sent again, as a modality does. At the end each
film must have one report at storescp. Progress goes to stderr. ``--every`` gives the time of a film
that need not wait for others.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
    parser.add_argument("--faults", default="", help="of kill,peer,garbage,disk")
    parser.add_argument("--every", type=float, metavar="S", help="a film each S s, as a ward does")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bakit-node-") as folder:
        measure(asked, Path(folder))


def measure(asked: argparse.Namespace, folder: Path) -> None:
    """Send all films and print what came of it."""
    files = write_films(folder / "films", asked.films, asked.height)
    ward = Ward(folder, asked.bundle)
    faults = [name for name in asked.faults.split(",") if name]
    started = time.monotonic()
    with ThreadPoolExecutor(asked.senders) as pool:
        parts = [files[n :: asked.senders] for n in range(asked.senders)]
        sent = [pool.submit(send, ward.port, part, asked.every) for part in parts]
        for number, fault in enumerate(faults, start=1):
            share = number / (len(faults) + 1)
            wait_until(lambda share=share: held(folder) >= share * len(files), 3600)
            print(f"{held(folder)} of {len(files)} received; {fault}", file=sys.stderr, flush=True)
            getattr(ward, fault)()
        again = sum(future.result() for future in sent)
    received = time.monotonic() - started
    wait_until(lambda: held(folder, "done") == len(files), 3600)
    seconds = time.monotonic() - started
    with urllib.request.urlopen(f"http://127.0.0.1:{ward.web_port}/metrics") as answer:
        metrics = answer.read().decode()
    ward.close()
    print_times(metrics)
    reports = [pydicom.dcmread(path) for path in (folder / "pacs").iterdir()]
    answered = Counter(
        report.CurrentRequestedProcedureEvidenceSequence[0]
        .ReferencedSeriesSequence[0]
        .ReferencedSOPSequence[0]
        .ReferencedSOPInstanceUID
        for report in reports
    )
    doubled = sum(count > 1 for count in answered.values())
    print(f"{len(files)} films, {asked.senders} senders, faults {faults}, {again} sent again")
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


class Ward:
    """A node, whose log is read for its times, and its peer."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle = folder, bundle
        self.peer_port, self.port, self.web_port = free_port(), free_port(), free_port()
        (folder / "pacs").mkdir()
        (folder / "spool").mkdir()
        self.mounted = os.geteuid() == 0
        if self.mounted:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=1g", "x", folder / "spool"], check=True
            )
        self.start_peer()
        self.start_node()

    def start_peer(self) -> None:
        """Start storescp."""
        words = ["storescp", "-q", "--fork", "-aet", "PACS", "-od", self.folder / "pacs"]

        def started() -> bool:  # its port may be in use for a minute after its end
            self.storescp = subprocess.Popen(list(map(str, [*words, self.peer_port])))
            while self.storescp.poll() is None and not listens(self.peer_port):
                time.sleep(0.1)
            return self.storescp.poll() is None

        wait_until(started)

    def start_node(self) -> None:
        """Start the node, and read its log, so that its pipe never fills."""
        root = self.folder / "spool"
        ports = self.peer_port, self.port
        self.node = node_process(root, self.bundle, *ports, web_port=self.web_port, workers=2)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        """Take the times from the log."""
        found = re.findall(r", ([\d.]+) s after the radiograph", self.node.stderr.read())
        TIMES.extend(map(float, found))

    def end_node(self, number: int) -> None:
        """Send a signal and wait."""
        self.node.send_signal(number)
        self.node.wait()
        self.reader.join()
        self.node.stderr.close()

    def kill(self) -> None:
        """Kill the node and start it again."""
        self.end_node(signal.SIGKILL)
        self.start_node()

    def peer(self) -> None:
        """End the peer, and start it again after a while."""
        self.storescp.terminate()
        self.storescp.wait()
        time.sleep(20)
        self.start_peer()

    def garbage(self) -> None:
        """Connect and send random bytes, or an association whose PDUs are cut or too long."""
        for number in range(20):
            with socket.create_connection(("127.0.0.1", self.port)) as connection:
                connection.sendall(
                    (b"", b"\x01\0", b"\x04\0\xff\xff")[number % 3] + os.urandom(999)
                )

    def disk(self) -> None:
        """Fill the spool's disk for a while."""
        with (self.folder / "spool/ballast").open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        time.sleep(10)
        (self.folder / "spool/ballast").unlink()

    def close(self) -> None:
        """End the node and the peer."""
        self.end_node(signal.SIGTERM)
        self.storescp.terminate()
        self.storescp.wait()
        if self.mounted:
            subprocess.run(["umount", "-l", self.folder / "spool"], check=True)


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
        data.StudyID = str(index)
        files.append(folder / f"{index}.dcm")
        files[-1].write_bytes(stored(data))
    return files


def send(port: int, files: list[Path], every: float | None) -> int:
    """Send films in one association, or in one each; return how many failed and were sent again."""
    waiting, again = list(files), 0
    while waiting:
        some = waiting if every is None else waiting[:1]
        words = ["storescu", "-v", "-aec", "BAKIT", "127.0.0.1", str(port), *map(str, some)]
        sent = subprocess.run(words, capture_output=True, text=True, check=False)
        stored_now = (sent.stdout + sent.stderr).count("(Success)")
        waiting = waiting[stored_now:]
        failed = len(some) - stored_now
        again += failed
        time.sleep(every or (0.2 if failed else 0))
    return again


def held(folder: Path, *states: str) -> int:
    """Return how many films are in some folders of the spool, or were received."""
    places = (folder / "spool" / state for state in states or ("in", "out", "done"))
    return len({path.name for place in places for path in place.iterdir()})


if __name__ == "__main__":
    sys.exit(main())
