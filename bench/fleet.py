"""Several devices at once: ``bakit bench --fleet``."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

from bakit.bench.device.pack import AgentOptions
from bakit.bench.device.run import bench_host
from bakit.bench.device.ssh import Remote
from bakit.bench.local.run import run_bench
from bakit.bench.report.fleet import INTERRUPTED, SCHEMA_VERSION, Fleet, FleetDevice
from bakit.bench.task import read_bundles
from bakit.bundle import Bundle
from bakit.errors import BakitError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.bench.report.document import Report
    from bakit.types import OnProgress

AT_ONCE = 16
"""Most devices at a time: each has crops and references prepared here."""

THIS_MACHINE = "this machine"


class DeviceEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table ``[device.NAME]`` of the device file; paths are relative to the file.

    Attributes:
        host: ``user@device`` or a name of the ssh configuration; ``this machine`` runs without ssh.
        bundles: Folders of the bundles.
        reference: Folder of the bundle that stands for the float model.
        port: SSH port.
        identity: SSH private key.
        ssh_options: As after ``ssh -o``.
        python: Python of the device.
        engine: As ``--engine``.
        allow_downgrade: As ``--allow-downgrade``.
        workspace_mb: As ``--workspace-mb``.
    """

    host: str
    bundles: Annotated[list[str], msgspec.Meta(min_length=1)]
    reference: str | None = None
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    identity: str | None = None
    ssh_options: tuple[str, ...] = ()
    python: str = "python3"
    engine: Literal["auto", "tensorrt", "trtexec", "onnxruntime"] = "auto"
    allow_downgrade: bool = False
    workspace_mb: Annotated[int, msgspec.Meta(ge=16)] = 256


class _Stopped(Exception):  # noqa: N818  # ends a device's run, as Ctrl-C does here
    """The other devices were interrupted."""


class Target(NamedTuple):
    """A device with its bundles, checked."""

    name: str
    entry: DeviceEntry
    bundles: list[Bundle]
    reference: Bundle | None

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each bundle by its name."""
        return {bundle.name: bundle.sha256 for bundle in self.bundles}


def read_targets(path: Path, public_key: Path | None = None) -> list[Target]:
    """Read a device file (TOML) and the bundles that it names.

    Raises:
        InputError: If the file is missing, is no TOML, or a name or a value is wrong.
        BundleError: If a bundle is damaged, or is not signed with the key.
    """
    try:
        content = msgspec.toml.decode(path.read_bytes())
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        message = f"{path}: no device file ({getattr(error, 'strerror', None) or error})"
        raise InputError(message) from error
    devices = content.get("device")
    unknown = [name for name in content if name != "device"]
    if unknown or not isinstance(devices, dict) or not devices:
        found = f"unknown name {unknown[0]!r}" if unknown else "no device"
        message = f'{path}: {found}; write [device.NAME] with host = "user@device" and bundles'
        raise InputError(message)
    return [_target(path, name, table, public_key) for name, table in devices.items()]


def _target(path: Path, name: str, table: Any, public_key: Path | None) -> Target:  # noqa: ANN401
    where = f"{path}: device {name!r}"
    fields = DeviceEntry.__struct_fields__
    for key in table if isinstance(table, dict) else ():
        if key not in fields:
            close = get_close_matches(key, fields, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(fields)}"
            message = f"{where}: unknown name {key!r}; {hint}"
            raise InputError(message)
    try:
        entry = msgspec.convert(table, DeviceEntry)
        if entry.host != THIS_MACHINE:
            _remote(entry)
    except (msgspec.ValidationError, InputError) as error:
        message = f"{where}: {str(error).removeprefix('--')}"
        raise InputError(message) from error

    bundles = read_bundles([Bundle.read(path.parent / one, public_key) for one in entry.bundles])
    reference = None
    if entry.reference is not None:
        reference = Bundle.read(path.parent / entry.reference, public_key)
    return Target(name, entry, bundles, reference)


def _remote(entry: DeviceEntry) -> Remote:
    identity = None if entry.identity is None else Path(entry.identity).expanduser()
    return Remote(entry.host, entry.port, identity, entry.ssh_options)


def bench_fleet(
    targets: Sequence[Target],
    earlier: Fleet | None = None,
    on_progress: Callable[[str], OnProgress] | None = None,
    **how: Any,  # noqa: ANN401  # named as in run_bench
) -> Fleet:
    """Measure bundles on several devices: those over ssh at once, then this machine alone.

    A device that fails does not stop the others. Ctrl-C ends all, removes what was copied, and
    keeps the results of the devices that are done.

    Args:
        targets: The devices.
        earlier: An earlier report: devices that it has measured, with the same bundles, are kept.
        on_progress: Returns the progress callback of a device, by its name.
        how: Data, limit and settings for all devices.
    """
    before = {} if earlier is None else {d.name: d for d in earlier.devices if not d.failures}
    found = {
        target.name: before[target.name]
        for target in targets
        if target.name in before and before[target.name].bundles == target.digests
    }
    todo = [target for target in targets if target.name not in found]
    remote = [target for target in todo if target.entry.host != THIS_MACHINE]
    stop = threading.Event()

    def measure(target: Target) -> FleetDevice:
        report = None if on_progress is None else on_progress(target.name)

        def progress(step: str, done: float, total: float | None) -> None:
            if stop.is_set():
                raise _Stopped
            if report is not None:
                report(step, done, total)

        try:
            measured = _measure(target, progress, how)
        except _Stopped:
            return FleetDevice(target.name, target.digests, None, INTERRUPTED)
        except (BakitError, OSError) as error:
            line = " ".join(str(error).split())
            return FleetDevice(target.name, target.digests, None, line)
        return FleetDevice(target.name, target.digests, measured)

    with ThreadPoolExecutor(AT_ONCE, "bakit-fleet") as pool:
        waiting = [pool.submit(measure, target) for target in remote]
        try:
            wait(waiting)
        except KeyboardInterrupt:
            stop.set()  # the devices end at their next report, and clean up
        found |= {future.result().name: future.result() for future in waiting}
    # Alone: references and crops for the others would disturb its times.
    found |= {target.name: measure(target) for target in todo if target not in remote}
    return Fleet(SCHEMA_VERSION, tuple(found[target.name] for target in targets))


def _measure(target: Target, on_progress: OnProgress, how: dict[str, Any]) -> Report:
    entry = target.entry
    common = {"reference": target.reference, "on_progress": on_progress, **how}
    if how.get("data") is None:
        common["reference"] = None  # it is of use with labelled images only
    if entry.host == THIS_MACHINE:
        return run_bench(target.bundles, **common)
    options = AgentOptions(entry.engine, entry.allow_downgrade, entry.workspace_mb)
    return bench_host(
        _remote(entry), target.bundles, options=options, python=entry.python, **common
    )
