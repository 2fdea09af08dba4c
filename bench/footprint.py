"""Start-up time and memory of a bundle, in a process of its own.

``python -m bakit.bench.footprint BUNDLE [THREADS]`` prints one JSON object:

* ``load_ms``: opening both models. Starting Python, importing libraries and checking the
  bundle's digests come before it and are not in it.
* ``first_prediction_ms``: the first prediction after that, on the bundle's first golden image.
  What a backend puts off until then (memory, kernels, threads) is in it.
* ``peak_rss_mb``: the process's largest resident memory, in 10^6 bytes, up to then: Python, numpy,
  OpenCV, bakit, the backend's library, both models and their buffers, and the image. Memory on a
  GPU is not in it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bakit.bench.report import Footprint
from bakit.errors import BakitError, BundleError
from bakit.runtime import Runtime

if TYPE_CHECKING:
    from bakit.bundle import Bundle


def measure_footprint(bundle: Bundle, threads: int | None = None) -> Footprint:
    """Measure a bundle in a fresh process.

    Args:
        bundle: The bundle.
        threads: Threads of the backend; its own choice when None.

    Raises:
        BundleError: If the process fails; the message ends with its last line.
    """
    command = [sys.executable, "-m", "bakit.bench.footprint", str(bundle.root)]
    if threads is not None:
        command.append(str(threads))
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # ours
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        message = (
            f"{bundle.root}: a fresh process that predicts with it ended with exit status "
            f"{done.returncode}: {reason}"
        )
        raise BundleError(message)
    # The last line: a backend's library may print to stdout as well.
    return msgspec.json.decode(done.stdout.strip().splitlines()[-1], type=Footprint)


def footprint_here(root: Path, threads: int | None = None) -> Footprint:
    """Measure a bundle in this process, which should have done nothing else before.

    Raises:
        BundleError: If the bundle cannot be used, or has no golden image.
    """
    with Runtime(root, threads) as runtime:
        golden = runtime.bundle.manifest.golden
        if not golden:
            message = f"{root}: the bundle has no golden image; export it again"
            raise BundleError(message)
        image = (root / golden[0].path).read_bytes()
        started = time.perf_counter()
        runtime.predict(image, golden[0].sex)
        first_ms = (time.perf_counter() - started) * 1000
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


def main(arguments: list[str]) -> int:
    """Print the footprint of a bundle; return the exit status."""
    try:
        result = footprint_here(Path(arguments[0]), *map(int, arguments[1:]))
    except BakitError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
