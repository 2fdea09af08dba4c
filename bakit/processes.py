"""Number of available CPUs, and commands that start Python processes."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def cpu_count() -> int:
    """Return the number of CPUs available to this process, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1


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
def safe_path() -> Iterator[None]:
    """Keep the working folder off the import path of new processes (Python 3.11 or newer)."""
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
