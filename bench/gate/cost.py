"""The gate's limits on time, size and the share of INT8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bench.gate.advice import for_latency
from bakit.bench.gate.verdict import Check
from bakit.errors import InputError
from bakit.types import Precision

if TYPE_CHECKING:
    from bakit.bench.gate.check import Gate
    from bakit.bench.report.document import BundleReport


def cost_checks(gate: Gate, bundle: BundleReport) -> list[Check]:
    """Check what a bundle costs.

    Raises:
        InputError: If a limit is set on times that the report does not have.
    """
    checks = []
    if gate.max_p90_ms is not None:
        if bundle.latency is None:
            message = f"{bundle.name}: the report has no times of it; bench again"
            raise InputError(message)
        p90_ms = bundle.latency.stages["total"].p90_ms
        text = f"p90 of the total time {p90_ms:.4g} ms, limit {gate.max_p90_ms:.4g} ms"
        if p90_ms <= gate.max_p90_ms:
            checks.append(Check("max_p90_ms", "pass", text))
        else:
            advice = for_latency(bundle, bundle.latency)
            checks.append(Check("max_p90_ms", "fail", text, advice=advice))
    if gate.max_size_mb is not None:
        size_mb = bundle.total_size_mb
        text = f"size of the model files {size_mb:.4g} MB, limit {gate.max_size_mb:.4g} MB"
        passed = size_mb <= gate.max_size_mb
        advice = "" if passed else _smaller(bundle)
        checks.append(Check("max_size_mb", "pass" if passed else "fail", text, advice=advice))
    if gate.min_int8_share is not None and bundle.precision is Precision.INT8:
        share, limit = 100 * bundle.int8_share, 100 * gate.min_int8_share
        text = f"{share:.4g} % of the multiply-adds in INT8, limit {limit:.4g} %"
        passed = bundle.int8_share >= gate.min_int8_share
        advice = (
            ""
            if passed
            else "bakit inspect shows what is written in INT8, which not every CPU runs"
        )
        checks.append(Check("min_int8_share", "pass" if passed else "fail", text, advice=advice))
    return checks


def _smaller(bundle: BundleReport) -> str:
    largest = max(bundle.size_mb, key=bundle.size_mb.__getitem__, default="regressor")
    if bundle.precision is Precision.INT8:
        return f"the {largest} is largest: a smaller model (bakit train)"
    return f"the {largest} is largest: export with --int8 or --fp16"
