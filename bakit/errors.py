"""Every error that bakit raises on purpose.

* BakitError                    exit status 2 on the command line
  + InputError                  a file, an option or a value is wrong
    - ImageError                an image that cannot be read or used
    - LabelsError               a data folder whose labels cannot be used
  + CheckpointError             a float checkpoint is damaged or not written by bakit
  + BundleError                 a bundle is damaged, unknown or was changed
  + UnsupportedTargetError      the target is unknown, or does not support the request
  + VerificationError           exported numbers differ from the float model's; status 1
  + MissingBackendError         a library is not installed; status 3
    - MissingProgramError       a program or device that pip cannot install

Catch ``BakitError`` to catch them all. Every message says how to fix the problem.
"""

from __future__ import annotations

import copyreg
import traceback
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

DISTRIBUTION = "bakit-edge"
"""Name of the installable package. ``bakit`` on the package index is another project."""


def install_command(extra: str = "", *, upgrade: bool = False) -> str:
    """Return the pip command that installs bakit, with ``extra`` (names separated by commas)."""
    options = "-U " if upgrade else ""
    package = f"'{DISTRIBUTION}[{extra}]'" if extra else DISTRIBUTION
    return f"pip install {options}{package}"


class BakitError(Exception):
    """Base class of bakit's errors.

    Attributes:
        exit_status: Exit status of the command line.
    """

    exit_status = 2

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the message, not what ``__init__`` of a subclass takes."""
        return copyreg.__newobj__, (type(self), *self.args)  # type: ignore[attr-defined]


class InputError(BakitError):
    """A file, an option or a value is wrong."""


class ImageError(InputError):
    """An image cannot be read or used."""


class LabelsError(InputError):
    """The labels of a data folder cannot be used."""


class CheckpointError(BakitError):
    """A float checkpoint is damaged or was not written by bakit."""


class BundleError(BakitError):
    """A bundle is damaged, was changed, or is from another version."""


class UnsupportedTargetError(BakitError):
    """The target is unknown, or does not support the request."""


class VerificationError(BakitError):
    """An exported model does not reproduce the float model."""

    exit_status = 1


class MissingBackendError(BakitError):
    """A required library is not installed."""

    exit_status = 3

    def __init__(self, need: str, extra: str) -> None:
        super().__init__(f"{need} needs: {install_command(extra)}")


class MissingProgramError(MissingBackendError):
    """A required program or device is missing, which ``pip install`` cannot provide."""

    def __init__(self, need: str, command: str) -> None:
        BakitError.__init__(self, f"{need}: {command}")


LISTEN_ERRORS = (OSError, OverflowError, UnicodeError)
"""What a server's socket raises for an address or a port."""


def cannot_listen(bind: str, port: int, error: Exception, option: str = "--port") -> InputError:
    """Return the error for one of ``LISTEN_ERRORS``; ``option`` gave the port."""
    reason = getattr(error, "strerror", None) or error
    return InputError(
        f"cannot listen on {bind} port {port} ({reason}); use an address of this machine and a "
        f"free port for {option}"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error of another library, its type if it has no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(":")


def safe_text(error: BaseException) -> str:
    """Return the message of bakit or the system; of another error, type and place alone.

    The messages of libraries quote what they read, such as a patient's name.
    """
    if isinstance(error, BakitError | OSError):
        return first_line(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{place}"


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name: the known name like it, or all known names."""
    names = {item.lower().lstrip("-"): item for item in known}  # dashes would make options alike
    start = name.lower().lstrip("-")
    near = [item for item in names if len(start) > 3 and item.startswith(start)]
    near = near or get_close_matches(start, names, 1)
    if near:
        return f"unknown {kind} {name!r}; did you mean {names[near[0]]!r}?"
    return f"unknown {kind} {name!r}" + (f"; use {', '.join(names.values())}" if names else "")
