"""Figures of a report follow from its ages and times: a report that was edited is refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from bakit.bench.conditions import judge, stage_times
from bakit.bench.drift.compare import drift_of_rows
from bakit.bench.gate.accuracy import drift_of
from bakit.data.splits import ids_digest
from bakit.errors import InputError

if TYPE_CHECKING:
    from bakit.bench.report.document import BundleReport, Report

_TOLERANCE = 1e-6

_ADVICE = "it was edited, or an older bakit wrote it: bench again"


def check_figures(report: Report) -> None:
    """Compute the figures of a report again from its rows and times, and compare.

    Raises:
        InputError: If a figure does not follow from them, or the rows are of other images.
    """
    for bundle in report.bundles:
        try:
            with np.errstate(all="ignore"):
                pairs = _pairs(bundle)
        except (ArithmeticError, ValueError) as error:  # ages beyond all arithmetic
            message = f"{bundle.name}: the report's ages give no figures ({error}); bench again"
            raise InputError(message) from error
        for name, given, found in pairs:
            if fault := _fault(name, msgspec.to_builtins(given), msgspec.to_builtins(found)):
                message = f"{bundle.name}: the report's {fault}; {_ADVICE}"
                raise InputError(message)
        if bundle.drift is None or report.data is None:
            continue
        if ids_digest(cast("Any", bundle.drift.rows)) != report.data.ids_sha256:
            message = f"{bundle.name}: the report's ages are not of its data's images; {_ADVICE}"
            raise InputError(message)


def _pairs(bundle: BundleReport) -> list[tuple[str, Any, Any]]:
    """Return each part of a bundle's report: its name, as given and as computed again."""
    pairs: list[tuple[str, Any, Any]] = []
    if bundle.drift is not None:
        drift = drift_of(bundle, "the report")
        pairs.append(("drift", drift, drift_of_rows(drift.rows, **drift.given)))
    if (latency := bundle.latency) is not None:
        for stage in latency.stages if latency.samples else ():
            times_ms = np.array(latency.samples_ns(stage), float) / 1e6
            if len(times_ms):
                pairs.append((f"latency of {stage}", latency.stages[stage], stage_times(times_ms)))
        if latency.stability is not None and "regress" in latency.samples:
            stability = judge(np.array(latency.samples_ns("regress"), float), None, None)
            given, found = ((x.score, x.warning is None) for x in (latency.stability, stability))
            pairs.append(("latency's stability (score, whether steady)", given, found))
    return pairs


def _fault(name: str, given: Any, found: Any) -> str:  # noqa: ANN401  # any part of a report
    """Return what does not follow, in words; nothing where all does. None was not measured."""
    if given is None or _same(given, found):
        return ""
    if isinstance(found, dict):
        parts = [(f"{name}: {key}", given[key], found[key]) for key in found if key != "rows"]
    elif (
        found
        and isinstance(found, (list, tuple))
        and isinstance(found[0], dict)
        and len(given) == len(found)
    ):
        parts = [(f"{name} {i}", *pair) for i, pair in enumerate(zip(given, found, strict=True), 1)]
    else:
        rows = "times" if "latency" in name else "rows"
        return f"{name} is {given}, but its {rows} give {found}"
    return next((fault for part in parts if (fault := _fault(*part))), "")


def _same(given: Any, found: Any) -> bool:  # noqa: ANN401  # any part of a report
    """Return whether two figures are equal, except for rounding."""
    if isinstance(found, float) and isinstance(given, (int, float)):
        return math.isclose(given, found, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if isinstance(found, (list, tuple)) and len(given) == len(found):
        return all(map(_same, given, found))
    return bool(given == found)
