"""Number of available CPUs, commands that start Python processes, and what libraries print."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess

_quiet_lock = threading.Lock()

_STOPS = {
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
}


def cpu_count() -> int:
    """Return the number of CPUs that this process may use, at least 1.

    The smallest of the machine's CPUs, the affinity mask and the quota of the control group.
    """
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    return max(count if quota is None else min(count, math.ceil(quota)), 1)


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return the CPUs that Linux control groups (v1 and v2) grant this process; None: no limit."""
    return min((quota for place in _groups(root) for quota in _quota_of(place)), default=None)


def quota_stops(root: Path = Path("/")) -> int:
    """Return how often the quota stopped this process's control groups since their start."""
    stops = [0]
    for place in _groups(root):
        with suppress(OSError, ValueError):
            rows = (place / "cpu.stat").read_text().splitlines()
            stops += [int(row.split()[1]) for row in rows if row.startswith("nr_throttled ")]
    return max(stops)


def _groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the CPU control groups that this process is in."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        folder = top / group.lstrip("/")
        # In a container, the group's path is that of the host: only its top is mounted.
        for place in {folder, *folder.parents} if folder.is_dir() else {top}:
            if place.is_relative_to(top):
                yield place


def _quota_of(folder: Path) -> list[float]:
    """Return the quota that one control group sets, if it sets one."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return [int(quota) / int(period)] if int(quota) > 0 else []
    except (OSError, ValueError, ZeroDivisionError):  # "max", or no file
        return []


def import_path() -> list[str]:
    """Return ``sys.path`` as absolute paths without the working folder, which may hold a json.py.

    The folder that bakit was imported from is kept.
    """
    here, home = Path.cwd(), Path(__file__).resolve().parents[1]
    entries = [Path(entry).absolute() for entry in sys.path]
    return [str(entry) for entry in entries if entry.resolve() != here or here == home]


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module in a new Python process.

    It has the import path of this process, then its ``PYTHONPATH``, without the working folder.
    """
    away = ("", ".", str(Path.cwd()))
    code = (
        f"import sys; own = [entry for entry in sys.path if entry not in {away!r}]; "
        f"sys.path[:] = dict.fromkeys({import_path()!r} + own); import runpy; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-c", code, *arguments]


@contextmanager
def spawning() -> Iterator[None]:
    """Start processes with multiprocessing meanwhile, and call ``begin_child`` first in each.

    They import nothing from the working folder. Signals wait in this thread until the end of the
    block, in the processes until ``begin_child``: ignored ones would be lost.
    """
    with _safe_path(), _signals_wait() if os.name == "posix" else nullcontext():
        yield


def begin_child() -> None:
    """Leave Ctrl-C to the parent, since a terminal sends it to both, and end when it is killed."""
    from multiprocessing import parent_process  # noqa: PLC0415  # 10 ms, not for a prediction

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    if (parent := parent_process()) is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    """End without its parent: a pool's worker would wait for tasks in a queue that it holds."""
    parent.join()
    os._exit(1)


@contextmanager
def _signals_wait() -> Iterator[None]:
    # Not on Windows. It starts with the first process, and some versions then unblock signals.
    from multiprocessing import resource_tracker  # noqa: PLC0415

    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _safe_path() -> Iterator[None]:
    if sys.version_info < (3, 11):  # it has no such variable, only the flag -I
        # Only here: before ``import_path`` is applied, it would be sought in the working folder.
        from multiprocessing import util  # noqa: PLC0415

        module: Any = util
        flags = module._args_from_interpreter_flags
        module._args_from_interpreter_flags = lambda: [*flags(), "-I"]
        try:
            yield
        finally:
            module._args_from_interpreter_flags = flags
        return
    name = "PYTHONSAFEPATH"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what this process writes to stderr meanwhile: libraries write past ``sys.stderr``."""
    with _quiet_lock:  # two at once would restore each other's sink
        try:
            kept = os.dup(2)
        except OSError:  # the program has closed it
            yield
            return
        sink = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(sink, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(sink)
