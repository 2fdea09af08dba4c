"""CPUs that this process may use, and Python processes that it starts."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def cpu_count() -> int:
    """Return how many CPUs this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(len(os.sched_getaffinity(0)), 1)
    return os.cpu_count() or 1


def import_path() -> list[str]:
    """Return ``sys.path`` without the working folder: a json.py there is not Python's own.

    The folder that bakit was imported from stays. All entries are absolute.
    """
    here, home = Path.cwd(), Path(__file__).resolve().parents[1]
    entries = [Path(entry).absolute() for entry in sys.path]
    return [str(entry) for entry in entries if entry.resolve() != here or here == home]


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module in a new Python process.

    The process imports bakit and libraries from where this one does, then from its ``PYTHONPATH``,
    and nothing from its working folder.
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
    """Let Python processes that start meanwhile import nothing from the working folder.

    Python 3.10 ignores it.
    """
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
