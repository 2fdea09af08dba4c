"""A benchmark on a device that is reached over ssh: ``bakit bench --host``."""

from __future__ import annotations

import secrets
import shlex
import tarfile
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bakit import agent
from bakit.bench.assemble import run_task
from bakit.bench.device.answers import DeviceInfo, decode, read_progress, read_raw
from bakit.bench.device.pack import AGENT, AgentOptions, private, write_job
from bakit.bench.stream import ConnectionLostError, Limit, shown
from bakit.bench.task import make_task
from bakit.errors import InputError
from bakit.files import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.bench.device.answers import Progress
    from bakit.bench.device.ssh import Remote
    from bakit.bench.raw import Raw, Reading
    from bakit.bench.report.document import Report
    from bakit.bench.task import Task
    from bakit.bundle import Bundle
    from bakit.types import OnProgress

JOBS = ".cache/bakit/jobs"
"""Folder of the work folders on the device, below its home."""

PATIENCE_S = 600.0
"""How long a lost connection is tried again."""
STALL_S = 9000.0
"""Longest time without progress; the longest step, to build an engine, may take 7200 seconds."""
DAY_S = 86400.0
"""Longest time of a bundle."""

INFO = Limit(seconds=360)
"""The agent gives each of its probes a minute."""
WATCH = Limit(seconds=7200, silence_s=60)
"""The agent prints its progress every 5 seconds, for an hour."""
LOG = Limit(seconds=60, max_bytes=agent.LOG_BYTES)
FETCH = Limit(seconds=900, max_bytes=1 << 27)
COPY_BYTES_PER_S = 1e5
"""A slower connection is not used."""


def bench_host(
    remote: Remote,
    bundles: Sequence[Bundle | str | Path],
    *,
    options: AgentOptions,
    python: str = "python3",
    keep: bool = False,
    log_file: Path | None = None,
    on_progress: OnProgress | None = None,
    **how: Any,  # noqa: ANN401  # named as in run_bench
) -> Report:
    """Measure bundles on a device; the reference runs here. Errors are those of ``run_bench``.

    Args:
        remote: How to reach the device.
        bundles: Bundles or their folders, at least one.
        options: How the device measures.
        python: The device's interpreter, 3.6 or newer, with numpy.
        keep: Whether the work folder stays on the device.
        log_file: Gets the end of the device's log, also if the run fails; None: nothing.
        on_progress: Progress of connecting, preparing, copying and measuring.
        how: Data, reference, limit and settings; crops of the images are sent to the device.

    Raises:
        InputError: If the device cannot be reached or cannot run a bundle.
    """
    device = SshDevice(remote, options, python, keep, log_file)
    return run_task(make_task(bundles, **how), device, on_progress)


@dataclass(frozen=True)
class SshDevice:
    """A device behind ssh (``bakit.bench.task.Device``)."""

    remote: Remote
    options: AgentOptions
    python: str = "python3"
    keep: bool = False
    log_file: Path | None = None

    def measure(self, task: Task, on_progress: OnProgress) -> Raw:
        """Copy the agent, bundles and prepared images there, measure, and remove them.

        They are removed after an interrupt as well. A lost connection is opened again; the device
        measures meanwhile.

        Raises:
            InputError: If the device cannot be reached or cannot run a bundle.
            BakitError: If an image cannot be used or a reference cannot be run here.
        """
        remote = self.remote
        work = f"{JOBS}/{secrets.token_hex(8)}"
        agent_there = [self.python, f"{work}/agent.py"]
        try:
            on_progress("connect", 0.0, 1.0)
            make = f"umask 077; mkdir -p {JOBS} && mkdir {work} && cat > {work}/agent.py"
            remote.shell(make, AGENT)
            info = remote.ask(agent_there, ["info"], partial(decode, kind=DeviceInfo), INFO)
            facts = msgspec.to_builtins(info)
            self._check(task.bundles, facts)
            references = self._send(task, work, facts["free_mb"], on_progress)
            remote.shell(shlex.join([*agent_there, "start", work]))
            self._watch(agent_there, work, len(task.bundles), on_progress)
            read = partial(read_raw, task=task, references=references)
            return _patiently(lambda: remote.ask(agent_there, ["fetch", work], read, FETCH))
        except ConnectionLostError as error:
            message = f"{remote.host}: {error or 'the connection was lost and did not come back'}"
            raise InputError(message) from error
        finally:
            self._fetch_log(agent_there, work)
            if not self.keep:
                stop = " ".join([*map(shlex.quote, agent_there), "stop", work])
                for command in (stop, _remove(work)):
                    with suppress(InputError, ConnectionLostError):
                        remote.shell(command)

    def _fetch_log(self, agent_there: Sequence[str], work: str) -> None:
        """Write the end of the device's log, as text that a terminal only prints."""
        if self.log_file is None:
            return
        with suppress(InputError, ConnectionLostError):
            data = self.remote.ask(agent_there, ["log", work], bytes, LOG)
            lines = data.decode("utf-8", "backslashreplace").splitlines()
            text = "".join(f"{shown(line, 2000)}\n" for line in lines)
            write_file(self.log_file, text.encode())

    def _check(self, bundles: Sequence[Bundle], info: dict[str, Any]) -> None:
        """Refuse what the device cannot run, before anything is copied."""
        for bundle in bundles:
            manifest = msgspec.to_builtins(bundle.manifest)
            try:
                agent.choose_way(manifest, info, asdict(self.options))
            except agent.AgentError as error:
                message = f"{self.remote.host}: {bundle.name}: {error}"
                raise InputError(message) from error

    def _send(
        self, task: Task, work: str, free_mb: float, on_progress: OnProgress
    ) -> dict[str, tuple[Reading, ...]]:
        """Write the work folder and copy it as one archive; return the references' ages."""
        with tempfile.TemporaryDirectory(prefix="bakit-host-") as folder:
            local = Path(folder) / "work"
            local.mkdir()
            references = write_job(
                local, task, self.options, keep=self.keep, on_progress=on_progress
            )
            packed = Path(folder) / "work.tar.gz"
            with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
                archive.add(local, ".", filter=private)
            size = packed.stat().st_size
            need_mb = 3 * size / 1e6
            if free_mb < need_mb:
                message = (
                    f"{self.remote.host}: {free_mb:.0f} MB are free there, the bundles and "
                    f"their engines need about {need_mb:.0f}; free some space on the device"
                )
                raise InputError(message)
            on_progress("copy", 0.0, 1.0)
            limit = Limit(seconds=120 + size / COPY_BYTES_PER_S)
            self.remote.shell(f"umask 077; tar -xz -C {work}", packed, limit)
            on_progress("copy", 1.0, 1.0)
        return references

    def _watch(
        self, agent_there: Sequence[str], work: str, bundles: int, on_progress: OnProgress
    ) -> None:
        """Follow the agent to its end, over as many connections as it takes."""
        read = partial(read_progress, bundles=bundles)
        clock = _Clock(self.remote.host, bundles)
        while True:
            with (
                suppress(ConnectionLostError),
                closing(self.remote.follow(agent_there, ["watch", work], read, WATCH)) as reports,
            ):
                for progress in reports:
                    if progress.state == "died":
                        message = f"{self.remote.host}: {progress.error}"
                        raise InputError(message)
                    if progress.state == "done":
                        return
                    clock.check(progress)
                    done = progress.number - 1 + progress.share
                    on_progress(progress.stage, done / bundles, 1.0)
            if time.monotonic() - clock.heard_at > PATIENCE_S:
                message = "the connection was lost and did not come back"
                raise ConnectionLostError(message)
            on_progress("reconnect", 0.0, 1.0)
            time.sleep(1.0)


class _Clock:
    """Ends the watch over an agent that makes no progress, takes too long or reports too often."""

    def __init__(self, host: str, bundles: int) -> None:
        self._host, self._limit_s = host, DAY_S * bundles
        self._began = self._moved_at = self.heard_at = time.monotonic()
        self._last: Progress | None = None
        self._reports = 0

    def check(self, progress: Progress) -> None:
        """Count a report.

        Raises:
            InputError: If the watch has to end.
        """
        self.heard_at = time.monotonic()
        self._reports += 1
        if progress != self._last:
            self._last, self._moved_at = progress, self.heard_at
        elapsed, still = self.heard_at - self._began, self.heard_at - self._moved_at
        problem = ""
        if still > STALL_S:
            problem = f"made no progress for {still / 60:.0f} minutes"
        elif elapsed > self._limit_s:
            problem = f"was not done after {elapsed / 3600:.0f} hours"
        elif self._reports > 100 + 10 * elapsed:  # it reports twice a second at most
            problem = f"sent {self._reports} reports in {elapsed:.0f} seconds"
        if problem:
            message = f"{self._host}: the agent {problem}; the run was ended"
            raise InputError(message)


def _remove(work: str) -> str:
    """Return the command that removes a work folder, and the folders above it if they are empty."""
    return f"rm -rf {work}; rmdir {JOBS} .cache/bakit 2>/dev/null; true"


def _patiently(attempt: Callable[[], Raw]) -> Raw:
    """Try until there is a connection."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(ConnectionLostError):
            return attempt()
        time.sleep(1.0)
    return attempt()
