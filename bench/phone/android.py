"""An Android phone as adb's shell describes it: model, Android, CPU, governor, temperature."""

from __future__ import annotations

import re
from typing import NamedTuple

import bakit
from bakit import agent
from bakit.bench.host import HostInfo
from bakit.bench.phone.adb import shell
from bakit.bench.stream import shown
from bakit.files import sha256

SYSTEM = "Android"
"""First word of ``HostInfo.system``."""

_COMMAND = """getprop; cat /proc/cpuinfo /proc/meminfo
echo governor: $(cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor)
dumpsys thermalservice"""
_CPU = "0"
_HOTTEST_C = 150.0


class PhoneState(NamedTuple):
    """A phone at one moment.

    Attributes:
        host: Its description; ``cpu`` has the manufacturer, the model and the chip.
        celsius: Highest temperature of the CPU, or of the phone if that is unreadable; or None.
        throttling: Android's thermal status: 0 none, up to 6 shutdown.
    """

    host: HostInfo
    celsius: float | None
    throttling: int


def read_state() -> PhoneState:
    """Ask the phone.

    Raises:
        InputError: If adb fails.
        MissingProgramError: If adb is not installed.
    """
    text = shell(_COMMAND).text
    props = dict(re.findall(r"^\[([^\]]+)\]: \[(.*)\]$", text, re.MULTILINE))

    def words(*names: str) -> str:
        return shown(" ".join(filter(None, (props.get(name, "").strip() for name in names))), 200)

    board = words("ro.product.manufacturer", "ro.product.model") or "unknown phone"
    chip = words("ro.soc.manufacturer", "ro.soc.model") or words("ro.board.platform")
    memory = re.search(r"^MemTotal:\s*(\d{1,12}) kB$", text, re.MULTILINE)
    governor = re.search(r"^governor: (\S.*)$", text, re.MULTILINE)
    host = HostInfo(
        system=f"{SYSTEM} {words('ro.build.version.release') or 'of unknown version'}",
        machine=words("ro.product.cpu.abi"),
        cpu=", ".join(filter(None, (board, chip))),
        logical_cores=len(re.findall(r"^processor\s*:", text, re.MULTILINE)) or 1,
        isa=tuple(agent.cpu_facts(text)[1]),
        memory_mb=int(memory[1]) * 1024 / 1e6 if memory else None,
        python="",
        versions={"bakit": bakit.__version__},
        governor=shown(governor[1], 40) if governor else None,
        machine_id=sha256(f"bakit\0{words('ro.serialno', 'ro.build.fingerprint')}".encode())[:16],
    )
    # The values before "HAL" are those of the last event. Kinds above 3 are no temperatures.
    current = text.partition("Current temperatures from HAL:")[2] or text
    found = re.findall(r"mValue=(\d{1,3}(?:\.\d+)?), mType=([0-3]),", current)
    celsius = [(float(value), kind) for value, kind in found if 0 < float(value) < _HOTTEST_C]
    hot = [value for value, kind in celsius if kind == _CPU] or [value for value, _ in celsius]
    status = re.search(r"Thermal Status: (\d)\b", text)
    return PhoneState(host, max(hot, default=None), int(status[1]) if status else 0)
