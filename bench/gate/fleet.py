"""The gate on a fleet: each device against the limits, decided by the worst."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import msgspec

from bakit.bench.gate.check import FAILED, MEASURED
from bakit.bench.gate.verdict import Check, make_result, make_verdict
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bakit.bench.gate.check import Gate
    from bakit.bench.gate.verdict import GateResult, KnownFailure
    from bakit.bench.report.fleet import Fleet


def check_fleet(
    gate: Gate,
    fleet: Fleet,
    baseline: Fleet | None,
    known: Sequence[KnownFailure],
    explicit: Collection[str],
    require: Sequence[str] = (),
) -> GateResult:
    """Compare every device with the limits; a device without a report fails.

    Names are ``device/bundle``, also in known failures. Devices are compared with the same device
    of the baseline; one of the baseline that is missing fails.

    Raises:
        InputError: As ``Gate.check``, with the device.
    """
    today = date.today()  # where the gate runs
    before = {} if baseline is None else {d.name: d.report for d in baseline.devices}
    verdicts, checks, notes = [], [], []
    for device in fleet.devices:
        earlier = before.pop(device.name, None)
        if device.report is None:
            problem = Check(FAILED, "fail", f"it failed: {device.error}")
            verdicts += [
                make_verdict(f"{device.name}/{bundle}", [problem], known, today)
                for bundle in device.bundles
            ]
            continue
        try:
            result = gate.check(device.report, earlier, explicit=explicit)
        except InputError as error:
            message = f"{device.name}: {error}"
            raise InputError(message) from error
        verdicts += [
            make_verdict(f"{device.name}/{v.name}", v.checks, known, today, v.notes)
            for v in result.bundles
        ]
        checks += [
            msgspec.structs.replace(check, text=f"{device.name}: {check.text}")
            for check in result.checks
        ]
        notes += [f"{device.name}: {note}" for note in result.notes]
    lost = Check(
        MEASURED, "not-measured", "it is in the baseline or required and not in the report"
    )
    missing = dict.fromkeys([*before, *require]).keys() - {verdict.name for verdict in verdicts}
    verdicts += [make_verdict(name, [lost], known, today) for name in sorted(missing)]
    return make_result(verdicts, known, checks, notes)
