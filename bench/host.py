"""Describe the machine that runs a benchmark."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

import bakit
from bakit.files import sha256
from bakit.processes import cpu_count, cpu_quota

INT8_FLAGS = (
    "avx2",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",  # x86: 8-bit integer multiplication
    "asimddp",
    "i8mm",  # Arm: dot product and matrix instructions
)
"""CPU features that affect the speed of INT8 models, and on x86 their accuracy."""

LIBRARIES = (
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "torch",
)
"""Packages whose versions affect the results."""


class HostInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One machine.

    Attributes:
        system: Operating system and its release.
        machine: Instruction set, such as ``x86_64``.
        cpu: Model of the CPU, or of the board where the CPU has no name.
        logical_cores: Logical cores that this process may use.
        isa: The ``INT8_FLAGS`` that the CPU has; empty if unknown.
        memory_mb: Memory in 10^6 bytes; None if unknown.
        python: Version of Python.
        versions: Versions of bakit and of the libraries, by package name.
        governor: The CPU's frequency governor, such as ``performance``; None if unknown, as in
            most virtual machines.
        machine_id: Digest of the host's name and ``/etc/machine-id``: equal in two reports of
            the same machine. None in older reports.
        cpu_quota: CPUs that the control group grants; None without a limit, or in older reports.
    """

    system: str
    machine: str
    cpu: str
    logical_cores: int
    isa: tuple[str, ...]
    memory_mb: float | None
    python: str
    versions: dict[str, str]
    governor: str | None = None
    machine_id: str | None = None
    cpu_quota: float | None = None

    @property
    def cpu_text(self) -> str:
        """The CPU, and how much of it was used."""
        quota = "" if self.cpu_quota is None else f", quota {self.cpu_quota:g} CPUs"
        return f"{self.cpu}, {self.logical_cores} logical cores{quota}"

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """Facts that must be equal before the latencies of two reports are compared.

        Library versions are not included, so that two versions can be compared.
        """
        memory_gb = None if self.memory_mb is None else round(self.memory_mb / 1000)
        known = (self.machine, self.cpu, self.logical_cores, self.isa, memory_gb)
        return (*known, self.machine_id, self.cpu_quota)


def read_host() -> HostInfo:
    """Describe this machine; imports none of the libraries."""
    cpuinfo = _read_text(Path("/proc/cpuinfo"))
    return HostInfo(
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        cpu=cpu_model(cpuinfo) or _board() or platform.processor() or platform.machine(),
        logical_cores=cpu_count(),
        isa=isa_flags(cpuinfo),
        memory_mb=_memory_mb(),
        python=platform.python_version(),
        versions={"bakit": bakit.__version__, **_versions()},
        governor=read_governor(),
        machine_id=_machine_id(),
        cpu_quota=cpu_quota(),
    )


def read_governor(root: Path = Path("/")) -> str | None:
    """Return the first core's frequency governor; None if unknown."""
    file = root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    return _read_text(file).strip() or None


def _machine_id() -> str:
    identity = _read_text(Path("/etc/machine-id")).strip()
    return sha256(f"bakit\0{platform.node()}\0{identity}".encode())[:16]


def cpu_model(cpuinfo: str) -> str:
    """Return the CPU's name from the text of ``/proc/cpuinfo``; empty if it has none."""
    return _field(cpuinfo, "model name")


def isa_flags(cpuinfo: str) -> tuple[str, ...]:
    """Return the ``INT8_FLAGS`` named in the text of ``/proc/cpuinfo``."""
    flags = set((_field(cpuinfo, "flags") or _field(cpuinfo, "Features")).split())
    return tuple(flag for flag in INT8_FLAGS if flag in flags)


def _field(cpuinfo: str, name: str) -> str:
    """Return the first value of a field; all cores are assumed to be equal."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _board() -> str:
    """Return the board's name: on Arm, ``/proc/cpuinfo`` does not name the CPU."""
    return _read_text(Path("/proc/device-tree/model")).rstrip("\0").strip()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _memory_mb() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    except (OSError, ValueError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
