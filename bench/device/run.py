"""A benchmark on a device that is reached over ssh: ``bakit bench --host``."""

from __future__ import annotations

import json
import secrets
import shlex
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from bakit import agent
from bakit.bench.assemble import run_task
from bakit.bench.device.pack import AGENT, AgentOptions, write_job
from bakit.bench.device.ssh import ConnectionLostError, Remote
from bakit.bench.host import HostInfo
from bakit.bench.raw import Raw, RawBundle
from bakit.bench.task import make_settings, read_task
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.bench.raw import Reading
    from bakit.bench.report.document import Report
    from bakit.bench.task import Task
    from bakit.bundle import Bundle
    from bakit.types import OnProgress

JOBS = ".cache/bakit/jobs"
"""Folder of the work folders on the device, below its home."""

PATIENCE_S = 600.0
"""How long a lost connection is tried again."""


def bench_host(
    remote: Remote,
    bundles: Sequence[Bundle | str | Path],
    data: str | Path | None = None,
    reference: Bundle | str | Path | None = None,
    limit: int | None = None,
    min_queries: int = 100,
    min_duration_s: float = 5.0,
    warm_up: int = 10,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
    *,
    options: AgentOptions,
    python: str = "python3",
    keep: bool = False,
) -> Report:
    """Measure bundles on a device; other arguments and errors are those of ``run_bench``.

    Args:
        remote: How to reach the device.
        bundles: Bundles or their folders, at least one.
        data: A labelled folder, for drift. Crops of its images are sent to the device.
        reference: Stands for the float model; it runs here.
        limit: Use this many of the labelled images.
        min_queries: Minimum number of queries of each bundle.
        min_duration_s: Minimum time spent in each bundle's queries.
        warm_up: Predictions of each bundle before its first query.
        threads: Threads of ONNX Runtime.
        on_progress: Progress of connecting, preparing, copying and measuring.
        options: How the device measures.
        python: The device's interpreter, 3.6 or newer, with numpy.
        keep: Whether the work folder stays on the device.

    Raises:
        InputError: If the device cannot be reached or cannot run a bundle.
    """
    # Bundles run one after the other.
    settings = make_settings(min_queries, min_duration_s, warm_up, threads, block=min_queries)
    task = read_task(bundles, data, reference, limit, settings)
    return run_task(task, SshDevice(remote, options, python, keep), on_progress)


@dataclass(frozen=True)
class SshDevice:
    """A device behind ssh (``bakit.bench.task.Device``)."""

    remote: Remote
    options: AgentOptions
    python: str = "python3"
    keep: bool = False

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
            remote.shell(f"mkdir -p {work} && cat > {work}/agent.py", AGENT)
            info = json.loads(remote.run([*agent_there, "info"]))
            self._check(task.bundles, info)
            references = self._send(task, work, info["free_mb"], on_progress)
            remote.run([*agent_there, "start", work])
            self._watch([*agent_there, "watch", work], on_progress)
            result = _patiently(lambda: remote.run(["cat", f"{work}/raw.json"]))
        except ConnectionLostError as error:
            message = f"{remote.host}: {error or 'the connection was lost and did not come back'}"
            raise InputError(message) from error
        finally:
            if not self.keep:
                stop = " ".join([*map(shlex.quote, agent_there), "stop", work])
                for command in (stop, _remove(work)):
                    with suppress(InputError, ConnectionLostError):
                        remote.shell(command)
        try:
            return read_raw(result, task, references)
        except (ValueError, msgspec.MsgspecError) as error:
            message = f"{remote.host}: the agent's measurements cannot be read ({error})"
            raise InputError(message) from error

    def _check(self, bundles: Sequence[Bundle], info: dict[str, Any]) -> None:
        """Refuse what the device cannot run, before anything is copied."""
        for bundle in bundles:
            manifest = msgspec.to_builtins(bundle.manifest)
            how = self.options
            reason = agent.refusal(manifest, info, how.engine, how.allow_downgrade)
            if reason:
                message = f"{bundle.name}: {reason}"
                raise InputError(message)

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
                archive.add(local, ".")
            need_mb = 3 * packed.stat().st_size / 1e6
            if free_mb < need_mb:
                message = (
                    f"{self.remote.host}: {free_mb:.0f} MB are free there, the bundles and "
                    f"their engines need about {need_mb:.0f}; free some space on the device"
                )
                raise InputError(message)
            on_progress("copy", 0.0, 1.0)
            self.remote.shell(f"tar -xz -C {work}", packed)
            on_progress("copy", 1.0, 1.0)
        return references

    def _watch(self, words: Sequence[str], on_progress: OnProgress) -> None:
        """Follow the agent to its end, over as many connections as it takes."""
        lost_at: float | None = None
        while True:
            try:
                for line in self.remote.lines(words):
                    lost_at = None
                    state = json.loads(line)
                    if state["state"] == "died":
                        message = f"{self.remote.host}: {state['error']}"
                        raise InputError(message)
                    if state["state"] == "done":
                        return
                    done = state["number"] - 1 + state["share"]
                    on_progress(state["stage"], done / state["bundles"], 1.0)
            except (ConnectionLostError, json.JSONDecodeError):
                pass  # a lost connection may leave half a line
            lost_at = lost_at or time.monotonic()
            if time.monotonic() - lost_at > PATIENCE_S:
                message = "the connection was lost and did not come back"
                raise ConnectionLostError(message)
            on_progress("reconnect", 0.0, 1.0)
            time.sleep(1.0)


def _remove(work: str) -> str:
    """Return the command that removes a work folder, and the folders above it if they are empty."""
    return f"rm -rf {work}; rmdir {JOBS} .cache/bakit 2>/dev/null; true"


def _patiently(attempt: Callable[[], str]) -> str:
    """Try until there is a connection."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(ConnectionLostError):
            return attempt()
        time.sleep(1.0)
    return attempt()


class _Document(msgspec.Struct):
    """The agent's ``raw.json``; bundles are decoded one by one."""

    host: HostInfo
    bundles: list[Any]


def read_raw(text: str, task: Task, references: dict[str, tuple[Reading, ...]]) -> Raw:
    """Read the agent's ``raw.json``; a bundle whose measurements cannot be read has failed.

    Raises:
        ValueError: If it is no JSON, or not of as many bundles.
        msgspec.ValidationError: If it is another document.
    """
    # Python's own decoder takes NaN: an age that is not finite fails its bundle alone.
    document = msgspec.convert(json.loads(text), _Document)
    if len(document.bundles) != len(task.bundles):
        message = f"{len(document.bundles)} bundles instead of {len(task.bundles)}"
        raise ValueError(message)
    return Raw(document.host, tuple(map(_read_bundle, document.bundles)), references=references)


def _read_bundle(found: object) -> RawBundle:
    try:
        return msgspec.convert(found, RawBundle)
    except msgspec.ValidationError as error:
        return RawBundle(error=f"the agent's measurements cannot be read ({error})")
