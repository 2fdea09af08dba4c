"""The document that ``bakit bench --fleet`` writes: the reports of several devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.bench.report.document import MAX_REPORT_BYTES, Report, read_report
from bakit.documents import UNREADABLE, read_versioned
from bakit.errors import InputError
from bakit.files import read_regular, write_file

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 1
INTERRUPTED = "the run was interrupted"


class FleetDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device of a fleet.

    Attributes:
        name: Its name in the device file.
        bundles: Names of the bundles that were to be measured, and the digest of each.
        report: Its report; None if it has none.
        error: Why it has none, in one line; None otherwise.
    """

    name: str
    bundles: dict[str, str]
    report: Report | None
    error: str | None = None

    @property
    def failures(self) -> list[str]:
        """What failed on it, one line each."""
        if self.report is None:
            return [self.error or "not measured"]
        return [f"{b.name}: {b.error}" for b in self.report.bundles if b.error is not None] + (
            [INTERRUPTED] if self.report.partial else []
        )


class Fleet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reports of several devices.

    Attributes:
        schema_version: Version of this document.
        devices: In the order of the device file, with different names.
    """

    schema_version: int
    devices: tuple[FleetDevice, ...]

    @property
    def failures(self) -> list[str]:
        """What failed, one line each, with the device."""
        return [f"{device.name}: {line}" for device in self.devices for line in device.failures]

    @property
    def names(self) -> list[str]:
        """``device/bundle`` for each bundle."""
        return [f"{device.name}/{bundle}" for device in self.devices for bundle in device.bundles]

    def write(self, path: Path) -> None:
        """Write the document atomically.

        Raises:
            OSError: If it cannot be written.
        """
        data = msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2)
        write_file(path, data + b"\n")


class _Kind(msgspec.Struct):
    devices: msgspec.Raw | None = None


def read_report_or_fleet(path: Path) -> Report | Fleet:
    """Read a report of one device or of a fleet.

    Raises:
        InputError: As ``read_report``.
    """
    try:
        kind = msgspec.json.decode(read_regular(path, MAX_REPORT_BYTES), type=_Kind)
    except (OSError, *UNREADABLE):
        return read_report(path)  # which says what is wrong
    return read_report(path) if kind.devices is None else read_fleet(path)


def read_fleet(path: Path) -> Fleet:
    """Read the report of a fleet.

    Raises:
        InputError: If the file is missing, is not such a report, or needs a newer version of bakit.
    """
    fleet, _ = read_versioned(
        path,
        Fleet,
        SCHEMA_VERSION,
        InputError,
        max_bytes=MAX_REPORT_BYTES,
        missing=f"{path}: the report of the fleet cannot be read ({{reason}})",
        wrong="not a report of bakit bench --fleet",
    )
    return fleet
