"""Benchmark bundles: latency, memory, drift from the float model, and the gate on a report.

``run_bench`` is imported on first use, because reports and the gate need no numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bench.gate.check import Gate
from bakit.bench.gate.verdict import GateResult
from bakit.bench.report.document import Report, read_report

if TYPE_CHECKING:
    from bakit.bench.local.run import run_bench

__all__ = ["Gate", "GateResult", "Report", "read_report", "run_bench"]


def __getattr__(name: str) -> object:
    """Import ``run_bench`` on first use."""
    if name == "run_bench":
        from bakit.bench.local.run import run_bench  # noqa: PLC0415  # brings numpy and OpenCV

        return run_bench
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
