"""Describe the machine that runs a benchmark."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

import bakit
from bakit import agent
from bakit.bench.bounds import Amount, Few, Text
from bakit.files import sha256
from bakit.processes import cpu_count, cpu_quota

LIBRARIES = (
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    *dict.fromkeys(package for package in agent.PROVIDERS.values() if " " not in package),
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
        isa: The ``agent.INT8_FLAGS`` that the CPU has; empty if unknown.
        memory_mb: Memory in 10^6 bytes; None if unknown.
        python: Version of Python.
        versions: Versions of bakit and of the libraries, by package name.
        governor: The CPU's frequency governor, such as ``performance``; None if unknown, as in
            most virtual machines.
        machine_id: Digest of the host's name and ``/etc/machine-id``: equal in two reports of
            the same machine. None in older reports.
        cpu_quota: CPUs that the control group grants; None without a limit, or in older reports.
    """

    system: Text
    machine: Text
    cpu: Text
    logical_cores: Annotated[int, Meta(ge=1, le=10**5)]
    isa: Annotated[tuple[Text, ...], Few]
    memory_mb: Amount | None
    python: Text
    versions: Annotated[dict[Text, Text], Few]
    governor: Text | None = None
    machine_id: Text | None = None
    cpu_quota: float | None = None

    @property
    def cpu_text(self) -> str:
        """The CPU, and how much of it was used."""
        quota = "" if self.cpu_quota is None else f", quota {self.cpu_quota:g} CPUs"
        return f"{self.cpu}, {self.logical_cores} logical cores{quota}"

    @property
    def is_android(self) -> bool:
        """Whether it is an Android phone, whose times a benchmark binary took."""
        return self.system.startswith("Android ")

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
    cpu, isa = agent.cpu_facts(agent.read_text("/proc/cpuinfo"))
    return HostInfo(
        system=f"{platform.system()} {platform.release()}",
        machine=platform.machine(),
        cpu=cpu or agent.board_model() or platform.processor() or platform.machine(),
        logical_cores=cpu_count(),
        isa=tuple(isa),
        memory_mb=agent.memory_mb(),
        python=platform.python_version(),
        versions={"bakit": bakit.__version__, **_versions()},
        governor=read_governor(),
        machine_id=_machine_id(),
        cpu_quota=cpu_quota(),
    )


def read_governor(root: Path = Path("/")) -> str | None:
    """Return the first core's frequency governor; None if unknown."""
    file = root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    return agent.read_text(str(file)) or None


def _machine_id() -> str:
    identity = agent.read_text("/etc/machine-id")
    return sha256(f"bakit\0{platform.node()}\0{identity}".encode())[:16]


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
