"""Energy of a CPU from its own counters: Intel's RAPL, which Linux shows in ``powercap``.

AMD's CPUs show theirs at the same place. Linux lets only the administrator read them unless the
file's mode is changed (``chmod a+r``); a counter that may not be read is as good as none.
"""

from __future__ import annotations

from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
SENSOR = "intel-rapl package"


class EnergyMeter:
    """The counters of all packages of the machine: cores, caches and memory controllers."""

    def __init__(self, root: Path = POWERCAP) -> None:
        found = (_package(zone) for zone in sorted(root.glob("intel-rapl:*")))
        self._packages = [package for package in found if package is not None]
        self.available = bool(self._packages)

    def read(self) -> tuple[int, ...]:
        """Return the counters, in microjoules."""
        return tuple(int(path.read_text()) for path, _ in self._packages)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy between two readings; a counter that ran over began again at 0."""
        microjoules = sum(
            end - start if end >= start else end - start + largest
            for (_, largest), start, end in zip(self._packages, before, after, strict=True)
        )
        return microjoules / 1e6


def _package(zone: Path) -> tuple[Path, int] | None:
    """Return a package's counter and where it runs over; None if it is no package or is closed."""
    try:
        if not (zone / "name").read_text().startswith("package"):
            return None
        int((zone / "energy_uj").read_text())
        return zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())
    except (OSError, ValueError):
        return None
