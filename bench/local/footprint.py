"""Start-up time and memory of a bundle, in a process that has done nothing else before.

* ``load_ms``: opening both models. Starting Python, importing libraries and checking the
  bundle's digests come before it and are not in it.
* ``first_prediction_ms``: the first prediction after that, on the bundle's first golden image.
  What a backend puts off until then (memory, kernels, threads) is in it.
* ``peak_rss_mb``: the process's largest resident memory, in 10^6 bytes, up to then: Python, numpy,
  OpenCV, bakit, the backend's library, both models and their buffers, and the image. Memory on a
  GPU is not in it.
* ``cold_start_ms``: from starting the process to its first answer, all of the above included.
  ``bakit.bench.local.process``, which starts it, takes that time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bakit.bench.report.document import Footprint
from bakit.errors import BundleError

if TYPE_CHECKING:
    from bakit.runtime import Runtime


def first_use(runtime: Runtime) -> Footprint:
    """Predict the bundle's first golden image, and say what that and opening it cost.

    Args:
        runtime: The bundle, just opened, in a process that should have done nothing else before.

    Raises:
        BundleError: If the bundle has no golden image.
    """
    root, golden = runtime.bundle.root, runtime.bundle.manifest.golden
    if not golden:
        message = f"{root}: the bundle has no golden image; export it again"
        raise BundleError(message)
    image = (root / golden[0].path).read_bytes()
    started = time.perf_counter_ns()
    runtime.predict(image, golden[0].sex, allow_rejected=True)
    first_ms = (time.perf_counter_ns() - started) / 1e6
    return Footprint(runtime.load_ms, first_ms, peak_rss_mb())


def peak_rss_mb() -> float | None:
    """Return this process's largest resident memory so far, in 10^6 bytes.

    Linux's ``ru_maxrss`` starts from the peak of the process that started this one, however large
    that was, and says nothing about a small child of a large parent. ``VmHWM`` starts anew.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
