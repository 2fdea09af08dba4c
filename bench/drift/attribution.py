"""Attribute a bundle's drift to conversion, quantization or the device."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from bakit.bench.report.drift import BlameStep
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bakit.bundle import Bundle
    from bakit.types import Floats


Step: TypeAlias = Literal["conversion", "quantization", "device"]

SIMULATED_BY = "onnx"
"""Target whose INT8 bundles are the reference for quantization: ONNX Runtime on a CPU."""


def attribute(
    bundle: Bundle,
    reference: Bundle,
    months: Mapping[str, Floats],
    true_months: Floats,
    bundles: Sequence[Bundle],
) -> tuple[BlameStep, ...]:
    """Split the change from the reference to a bundle into steps; ages are ``(N,)`` months.

    Intermediate steps need a bundle of the same checkpoint, and for INT8 of the same calibration
    and float layers.
    """
    stations: list[tuple[Step, Bundle]] = [("conversion", reference)]
    mine = bundle.manifest
    others = [
        other
        for other in bundles
        if other.name in months and other.manifest.checkpoint_sha256 == mine.checkpoint_sha256
    ]
    kind = (mine.target, Precision.FP32)
    same = [b for b in others if (b.manifest.target, b.manifest.precision) == kind][:1]
    stations += [("conversion", other) for other in same]
    simulated = [other for other in others if _simulates(other, bundle)][:1]
    stations += [("quantization", other) for other in simulated]
    if mine.precision is not Precision.FP32:
        stations.append(("device" if simulated else "quantization", bundle))
    return tuple(
        _step(step, months[before.name], months[after.name], true_months, (before.name, after.name))
        for (_, before), (step, after) in pairwise(stations)
        if before.name != after.name
    )


def _simulates(other: Bundle, bundle: Bundle) -> bool:
    """Return whether ``other`` is the same quantized model, run by ONNX Runtime on a CPU."""
    mine, its = bundle.manifest, other.manifest
    return (
        mine.precision is its.precision is Precision.INT8
        and its.target == SIMULATED_BY
        and (its.calibration_sha256, its.float_layers)
        == (mine.calibration_sha256, mine.float_layers)
    )


def _step(
    step: Step, before: Floats, after: Floats, true_months: Floats, names: tuple[str, str]
) -> BlameStep:
    signed = after - before
    drift = np.abs(after - true_months).mean() - np.abs(before - true_months).mean()
    return BlameStep(
        step=step,
        before=names[0],
        after=names[1],
        drift_months=float(drift),
        mean_change_months=float(signed.mean()),
        mean_abs_change_months=float(np.abs(signed).mean()),
        p99_abs_change_months=float(np.percentile(np.abs(signed), 99)),
        max_abs_change_months=float(np.abs(signed).max()),
    )
