"""One benchmark on a device that is reached over ssh: ``bakit bench --host``."""

from __future__ import annotations

import json
import secrets
import shlex
import tarfile
import tempfile
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bakit.bench.device import agent
from bakit.bench.device.pack import AGENT, AgentSettings, DriftSet, write_job
from bakit.bench.device.ssh import ConnectionLostError, Remote
from bakit.bench.drift.compare import choose_references, compare
from bakit.bench.host import HostInfo
from bakit.bench.local.latency import stage_times
from bakit.bench.local.run import provenance
from bakit.bench.report.document import SCHEMA_VERSION, BundleReport, Energy, Report, Settings
from bakit.bench.task import find_bundle, model_sizes, read_bundles, read_data
from bakit.data.images import refuse_calibration_images
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.bench.report.device import Device
    from bakit.bench.report.document import DriftReport, LatencyReport
    from bakit.bundle import Bundle

JOBS = ".cache/bakit/jobs"
"""Where work folders are on the device, below its home."""

PATIENCE_S = 600.0
"""How long a lost connection is tried again."""


def bench_host(
    device: Remote,
    bundles: Sequence[Bundle | str | Path],
    settings: AgentSettings,
    data: str | Path | None = None,
    reference: Bundle | str | Path | None = None,
    limit: int | None = None,
    *,
    python: str = "python3",
    keep: bool = False,
    on_stage: Callable[[str, float], None] = lambda _stage, _share: None,
) -> Report:
    """Measure bundles on a device.

    Bundles, the agent and the prepared images are copied there, and are removed at the end, or when
    this is interrupted. An interrupted connection is taken up again; the device goes on meanwhile.

    Args:
        device: The device.
        bundles: Bundles or their folders, at least one.
        settings: How is measured.
        data: A labelled folder, for drift. Crops of its images are sent to the device.
        reference: Stands for the float model; it runs here.
        limit: Use this many of the labelled images.
        python: The device's interpreter, 3.6 or newer, with numpy.
        keep: Whether the work folder stays on the device.
        on_stage: Called with what is being done and the share of it, 0..1.

    Raises:
        InputError: If the device cannot be reached or cannot run a bundle.
        BakitError: As for ``bakit.bench.run_bench``.
    """
    chosen = read_bundles(bundles)
    drift = _drift_set(chosen, data, reference, limit)
    work = f"{JOBS}/{secrets.token_hex(8)}"
    began = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    remote = [python, f"{work}/agent.py"]
    try:
        on_stage("connect", 0.0)
        device.shell(f"mkdir -p {work} && cat > {work}/agent.py", AGENT)
        info = json.loads(device.run([*remote, "info"]))
        _check(chosen, info, settings)
        with tempfile.TemporaryDirectory(prefix="bakit-host-") as folder:
            packed = _pack(Path(folder), chosen, settings, drift, keep=keep, on_stage=on_stage)
            need_mb = 3 * packed.stat().st_size / 1e6
            if info["free_mb"] < need_mb:
                message = (
                    f"{device.host}: {info['free_mb']:.0f} MB are free there, the bundles and "
                    f"their engines need about {need_mb:.0f}; free some space on the device"
                )
                raise InputError(message)
            on_stage("copy", 0.0)
            device.shell(f"tar -xz -C {work}", packed)
            on_stage("copy", 1.0)
        device.run([*remote, "start", work])
        failures = _watch(device, [*remote, "watch", work], on_stage)
        result = _patiently(lambda: device.run(["cat", f"{work}/report.json"]))
    except ConnectionLostError as error:
        message = f"{device.host}: {error or 'the connection was lost and did not come back'}"
        raise InputError(message) from error
    finally:
        if not keep:
            for command in (" ".join([*map(shlex.quote, remote), "stop", work]), _remove(work)):
                with suppress(InputError, ConnectionLostError):
                    device.shell(command)
    return _join(json.loads(result), failures, chosen, drift, began)


def _remove(work: str) -> str:
    """Return the command that removes a work folder, and the folders above it if they are empty."""
    return f"rm -rf {work}; rmdir {JOBS} .cache/bakit 2>/dev/null; true"


def _drift_set(
    bundles: Sequence[Bundle],
    data: str | Path | None,
    reference: Bundle | str | Path | None,
    limit: int | None,
) -> DriftSet | None:
    if data is None:
        if reference is not None or limit is not None:
            message = "--reference and --limit are for drift, which needs --data"
            raise InputError(message)
        return None
    among = read_bundles([*bundles, *([] if reference is None else [reference])])
    explicit = None if reference is None else find_bundle(among, reference)
    samples, info = read_data(Path(data), limit, among)
    refuse_calibration_images([sample.path for sample in samples], among)
    return DriftSet(info, samples, choose_references(among, explicit))


def _check(bundles: Sequence[Bundle], info: dict[str, Any], settings: AgentSettings) -> None:
    """Refuse what the device cannot run, before anything is copied."""
    for bundle in bundles:
        manifest = msgspec.to_builtins(bundle.manifest)
        reason = agent.refusal(manifest, info, settings.engine, settings.allow_downgrade)
        if reason:
            message = f"{bundle.name}: {reason}"
            raise InputError(message)


def _pack(
    folder: Path,
    bundles: Sequence[Bundle],
    settings: AgentSettings,
    drift: DriftSet | None,
    *,
    keep: bool,
    on_stage: Callable[[str, float], None],
) -> Path:
    """Write the work folder as one archive."""
    work = folder / "work"
    work.mkdir()
    done, total = 0, len(bundles) + (len(drift.samples) if drift else 0)

    def on_image() -> None:
        nonlocal done
        done += 1
        on_stage("prepare", min(1.0, done / total))

    write_job(work, bundles, settings, drift, keep=keep, on_image=on_image)
    packed = folder / "work.tar.gz"
    with tarfile.open(packed, "w:gz", compresslevel=1) as archive:
        archive.add(work, ".")
    return packed


def _watch(
    device: Remote, words: Sequence[str], on_stage: Callable[[str, float], None]
) -> dict[str, str]:
    """Follow the agent to its end, over as many connections as it takes; return what failed."""
    lost_at: float | None = None
    while True:
        try:
            for line in device.lines(words):
                lost_at = None
                state = json.loads(line)
                if state["state"] == "died":
                    message = f"{device.host}: {state['error']}"
                    raise InputError(message)
                if state["state"] == "done":
                    return dict(state["failures"])
                part = (state["number"] - 1 + state["share"]) / state["bundles"]
                on_stage(state["stage"], part)
        except (ConnectionLostError, json.JSONDecodeError):
            pass  # half a line is what a lost connection may leave
        lost_at = lost_at or time.monotonic()
        if time.monotonic() - lost_at > PATIENCE_S:
            message = "the connection was lost and did not come back"
            raise ConnectionLostError(message)
        on_stage("reconnect", 0.0)
        time.sleep(1.0)


def _patiently(attempt: Callable[[], str]) -> str:
    """Try until there is a connection."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with suppress(ConnectionLostError):
            return attempt()
        time.sleep(1.0)
    return attempt()


def _join(
    result: dict[str, Any],
    failures: dict[str, str],
    bundles: Sequence[Bundle],
    drift: DriftSet | None,
    measured_at: str,
) -> Report:
    """Make the same report of what the agent says as of any other run."""
    measured = {item["name"]: item for item in result["bundles"]}
    settings = msgspec.convert(result["settings"], Settings)
    reports = []
    for bundle in bundles:
        if bundle.name not in measured:
            reports.append(_failed(bundle, failures.get(bundle.name, "the agent does not say why")))
            continue
        report = msgspec.convert(measured[bundle.name], BundleReport)
        changes: dict[str, Any] = {"provenance": provenance(bundle)}
        if report.latency is not None:
            changes["latency"] = _with_intervals(report.latency, report.device)
        if drift is not None and report.drift is not None:
            changes["drift"] = _full_drift(report.drift, drift, bundle)
        reports.append(msgspec.structs.replace(report, **changes))
    host = msgspec.convert(result["host"], HostInfo)
    data = drift.info if drift else None
    return Report(SCHEMA_VERSION, host, settings, data, tuple(reports), measured_at=measured_at)


def _with_intervals(latency: LatencyReport, device: Device | None) -> LatencyReport:
    """Return the times with their intervals, and the energy where there was a sensor."""
    stages = {
        stage: stage_times(np.array(latency.samples_ns(stage)) / 1e6) for stage in latency.samples
    }
    energy = None
    if device and device.energy_mj is not None and device.busy_w is not None:
        sensor = f"INA3221 {device.power_rail}"
        energy = Energy(sensor, device.energy_mj / 1e3, device.busy_w)
    return msgspec.structs.replace(latency, stages=stages or latency.stages, energy=energy)


def _full_drift(found: DriftReport, drift: DriftSet, bundle: Bundle) -> DriftReport:
    """Return all statistics of the ages that the device said."""
    return compare(
        drift.samples,
        np.array([row.float_months for row in found.rows]),
        np.array([row.bundle_months for row in found.rows]),
        drift.references[bundle.manifest.checkpoint_sha256],
        is_reference=False,
        box_iou_mean=found.box_iou_mean,
    )


def _failed(bundle: Bundle, reason: str) -> BundleReport:
    """Return the report of a bundle that could not be measured."""
    manifest = bundle.manifest
    size_mb, total_size_mb = model_sizes(bundle)
    return BundleReport(
        name=bundle.name,
        target=manifest.target,
        precision=manifest.precision,
        provider="",
        bundle_sha256=bundle.sha256,
        checkpoint=manifest.checkpoint,
        checkpoint_sha256=manifest.checkpoint_sha256,
        size_mb=size_mb,
        total_size_mb=total_size_mb,
        latency=None,
        footprint=None,
        drift=None,
        provenance=provenance(bundle),
        error=reason,
    )
