"""Files of INT8 ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.errors import InputError
from bakit.files import write_file
from bakit.settings import Ranges

if TYPE_CHECKING:
    from pathlib import Path


def read_ranges(path: Path) -> Ranges:
    """Read a file of ranges that ``bakit calibrate`` wrote.

    Raises:
        InputError: If it is missing or something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Ranges)
    except OSError as error:
        message = f"{path}: no such file of ranges ({error.strerror or error})"
        raise InputError(message) from error
    except (UnicodeDecodeError, msgspec.MsgspecError) as error:
        message = f"{path}: not a file of ranges that bakit calibrate wrote ({error})"
        raise InputError(message) from error


def write_ranges(path: Path, ranges: Ranges) -> None:
    """Write a file of ranges."""
    write_file(path, msgspec.json.format(msgspec.json.encode(ranges), indent=1) + b"\n")
