"""Numbers about bundles: latency, footprint, drift from the float model, and the gate on them.

``run_bench`` is imported when it is first used: reading reports and gating them need no numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bench.gate import Gate
from bakit.bench.report import Report, read_report
from bakit.bench.verdict import GateResult

if TYPE_CHECKING:
    from bakit.bench.run import run_bench

__all__ = ["Gate", "GateResult", "Report", "read_report", "run_bench"]


def __getattr__(name: str) -> object:
    """Import what measures, on demand."""
    if name == "run_bench":
        from bakit.bench.run import run_bench  # noqa: PLC0415  # brings numpy and OpenCV

        return run_bench
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
