"""Several devices at once: ``bakit bench --fleet``."""

from __future__ import annotations

import codecs
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import msgspec

from bakit.backends.providers import find_provider
from bakit.bench.assemble import assemble, run_task
from bakit.bench.device.pack import AgentOptions
from bakit.bench.device.run import SshDevice
from bakit.bench.device.ssh import Remote
from bakit.bench.host import read_host
from bakit.bench.local.run import ThisMachine
from bakit.bench.raw import Raw, RawBundle
from bakit.bench.task import make_task, read_bundles
from bakit.bundle import Bundle
from bakit.documents import UNREADABLE
from bakit.errors import BakitError, InputError, unknown
from bakit.files import read_regular
from bakit.sealed import MAX_FILE_BYTES
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.bench.report.document import BundleReport, Report
    from bakit.bench.task import Device, Task
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
        provider: As ``--provider``.
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
    provider: str | None = None


class _Stopped(Exception):  # noqa: N818  # ends a device's run, as Ctrl-C does here
    """The other devices were interrupted."""


class Target(NamedTuple):
    """A device with its bundles, checked."""

    name: str
    entry: DeviceEntry
    bundles: list[Bundle]
    reference: Bundle | None


def read_targets(path: Path, public_key: Path | None = None) -> list[Target]:
    """Read a device file (TOML) and the bundles that it names.

    Raises:
        InputError: If the file is missing, is no TOML, or a name or a value is wrong.
        BundleError: If a bundle is damaged, or is not signed with the key.
    """
    try:
        data = read_regular(path, MAX_FILE_BYTES)
        content = msgspec.toml.decode(data.removeprefix(codecs.BOM_UTF8))
    except (OSError, *UNREADABLE) as error:
        message = f"{path}: no device file ({getattr(error, 'strerror', None) or error})"
        raise InputError(message) from error
    devices = content.get("device")
    others = [name for name in content if name != "device"]
    if others or not isinstance(devices, dict) or not devices:
        found = f"unknown name {others[0]!r}" if others else "no device"
        message = f'{path}: {found}; write [device.NAME] with host = "user@device" and bundles'
        raise InputError(message)
    targets = [_target(path, name, table, public_key) for name, table in devices.items()]
    names: dict[tuple[str, int | None], str] = {}
    for name, entry, *_ in targets:  # at once, their times would be wrong
        place = entry.host.rpartition("@")[2].lower(), entry.port
        if (first := names.setdefault(place, name)) != name:
            message = f"{path}: devices {first!r} and {name!r} are one host; give it all bundles"
            raise InputError(message)
    return targets


def _target(path: Path, name: str, table: Any, public_key: Path | None) -> Target:  # noqa: ANN401
    where = f"{path}: device {name!r}"
    if not name.isprintable() or not name or "/" in name:
        message = f"{where}: a name has letters that can be printed, and no slash"
        raise InputError(message)
    fields = DeviceEntry.__struct_fields__
    for key in table if isinstance(table, dict) else ():
        if key not in fields:
            message = f"{where}: {unknown('name', key, fields)}"
            raise InputError(message)
    try:
        entry = msgspec.convert(table, DeviceEntry)
        if entry.identity is not None:
            identity = str(path.parent / Path(entry.identity).expanduser())
            entry = msgspec.structs.replace(entry, identity=identity)
        if entry.provider is not None:
            entry = msgspec.structs.replace(entry, provider=find_provider(entry.provider))
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
    identity = None if entry.identity is None else Path(entry.identity)
    return Remote(entry.host, entry.port, identity, entry.ssh_options)


def bench_fleet(
    targets: Sequence[Target],
    earlier: Report | None = None,
    on_progress: Callable[[str], OnProgress] = lambda _: silent,
    **how: Any,  # noqa: ANN401  # named as in run_bench
) -> Report:
    """Measure bundles on several devices: those over ssh at once, then this machine alone.

    A device that fails does not stop the others: its bundles have the error. Ctrl-C ends all,
    removes what was copied, and keeps the results of the devices that are done.

    Args:
        targets: The devices.
        earlier: An earlier report: devices that it has measured, with the same bundles, are kept.
        on_progress: Returns the progress callback of a device, by its name.
        how: Data, limit and settings for all devices.

    Raises:
        InputError: If bundles, images and settings do not fit together, or are not those of
            ``earlier``; nothing was measured then.
    """
    tasks = {target.name: _task(target, how) for target in targets}
    first = tasks[targets[0].name]
    if any(task.data != first.data for task in tasks.values()):
        message = "the devices' models may be tested on different images; bench them separately"
        raise InputError(message)
    found: dict[str, Report] = {}
    if earlier is not None:
        if (earlier.data, earlier.settings) != (first.data, first.settings):
            message = "the earlier report is of other images or settings; repeat its options"
            raise InputError(message)
        for name, task in tasks.items():
            part = earlier.of_device(name) if name in earlier.devices else None
            if part is not None and _is_done(part, task):
                found[name] = part
    todo = [target for target in targets if target.name not in found]
    remote = [target for target in todo if target.entry.host != THIS_MACHINE]
    stop = threading.Event()

    def measure(target: Target) -> Report:
        task, show = tasks[target.name], on_progress(target.name)

        def progress(step: str, done: float, total: float | None) -> None:
            if stop.is_set():
                raise _Stopped
            show(step, done, total)

        try:
            report = run_task(task, _device(target.entry), progress)
        except _Stopped:
            report = msgspec.structs.replace(_failed(task, "interrupted"), partial=True)
        except (BakitError, OSError) as error:
            report = _failed(task, " ".join(str(error).split()))
        bundles = tuple(_renamed(bundle, target.name) for bundle in report.bundles)
        return msgspec.structs.replace(report, bundles=bundles)

    with ThreadPoolExecutor(AT_ONCE, "bakit-fleet") as pool:
        waiting = [pool.submit(measure, target) for target in remote]
        try:
            wait(waiting)
        except KeyboardInterrupt:
            stop.set()  # the devices end at their next report, and clean up
        for target, future in zip(remote, waiting, strict=True):
            found[target.name] = future.result()
    # Alone: references and crops for the others would disturb its times.
    found |= {target.name: measure(target) for target in todo if target not in remote}
    return _merged({target.name: found[target.name] for target in targets})


def _task(target: Target, how: dict[str, Any]) -> Task:
    """Return what to measure on a device; its reference is of use for drift alone."""
    reference = None if how.get("data") is None else target.reference
    here = target.entry.host == THIS_MACHINE
    try:
        return make_task(target.bundles, **{**how, "reference": reference, "with_reference": here})
    except InputError as error:
        message = f"{target.name}: {error}"
        raise InputError(message) from error


def _is_done(part: Report, task: Task) -> bool:
    """Return whether an earlier report has all numbers of a device."""
    measured = {
        bundle.name.rpartition("/")[2]: bundle.bundle_sha256
        for bundle in part.bundles
        if bundle.error is None and bundle.latency and (bundle.drift or task.data is None)
    }
    return {bundle.name: bundle.sha256 for bundle in task.bundles}.items() <= measured.items()


def _device(entry: DeviceEntry) -> Device:
    if entry.host == THIS_MACHINE:
        return ThisMachine(provider=entry.provider)
    names = ("engine", "allow_downgrade", "workspace_mb", "provider")
    options = AgentOptions(**{name: getattr(entry, name) for name in names})
    return SshDevice(_remote(entry), options, entry.python)


def _failed(task: Task, problem: str) -> Report:
    """Return the report of a device that has measured nothing."""
    return assemble(task, Raw(read_host(), (RawBundle(error=problem),) * len(task.bundles)))


def _renamed(bundle: BundleReport, device: str) -> BundleReport:
    drift = bundle.drift
    if drift is not None:
        drift = msgspec.structs.replace(drift, reference=f"{device}/{drift.reference}")
    return msgspec.structs.replace(bundle, name=f"{device}/{bundle.name}", drift=drift)


def _merged(reports: dict[str, Report]) -> Report:
    return msgspec.structs.replace(
        next(iter(reports.values())),
        host=read_host(),
        bundles=tuple(bundle for report in reports.values() for bundle in report.bundles),
        partial=any(report.partial for report in reports.values()),
        devices={name: report.host for name, report in reports.items()},
    )
