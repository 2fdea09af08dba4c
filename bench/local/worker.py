"""A bundle in a process of its own, which answers requests (``bakit.bench.local.process`` asks).

``python -m bakit.bench.local.worker BUNDLE [THREADS]`` opens the bundle, uses it once, and answers
the requests on stdin on stdout, until they end. The first answer is the footprint:

* ``load_ms``: opening both models. Starting Python, importing libraries and checking the
  bundle's digests come before it and are not in it.
* ``first_prediction_ms``: the first prediction after that, on the bundle's first golden image.
  What a backend puts off until then (memory, kernels, threads) is in it.
* ``peak_rss_mb``: the process's largest resident memory, in 10^6 bytes, up to then: Python, numpy,
  OpenCV, bakit, the backend's library, both models and their buffers, and the image. Memory on a
  GPU is not in it.
* ``cold_start_ms``: from starting the process to its first answer, all of the above included.
  ``bakit.bench.local.process``, which starts it, measures it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

import msgspec

from bakit.bench.local.protocol import (
    Answer,
    Ask,
    Done,
    Failed,
    Load,
    Opened,
    Request,
    Run,
    Said,
    Seen,
    Times,
    read_document,
    write_document,
)
from bakit.bench.report.latency import Footprint
from bakit.errors import BundleError
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.runtime import STAGES, Runtime, Sex


def serve(root: Path, requests: IO[bytes], answers: IO[bytes], threads: int | None = None) -> None:
    """Open a bundle and answer requests until they end, or an error: then with ``Failed``."""
    try:
        with Runtime(root, threads) as runtime:
            footprint = first_use(runtime)
            write_document(answers, Opened(runtime.provider, runtime.int8_share, footprint))
            queries: list[tuple[bytes, Sex]] = []
            while (data := read_document(requests)) is not None:
                request: Request = msgspec.msgpack.decode(data, type=Request)
                write_document(answers, answer(runtime, queries, request))
    except Exception as error:  # whatever a library raises, the other side is told
        lines = str(error).strip().splitlines() or ["it does not say why"]
        write_document(answers, Failed(type(error).__name__, lines[0]))


def first_use(runtime: Runtime) -> Footprint:
    """Predict the first golden image of a bundle that was just opened; return the footprint.

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


def answer(runtime: Runtime, queries: list[tuple[bytes, Sex]], request: Request) -> Answer:
    """Do what is asked; ``queries`` are those that were loaded."""
    match request:
        case Load():
            queries[:] = [(Path(path).read_bytes(), sex) for path, sex in request.queries]
            return Done()
        case Run():
            # What is asked for is the time of everything, of rejected images too.
            chosen = [queries[index] for index in request.indices]
            times = [runtime.predict(*query, allow_rejected=True).stages_ms for query in chosen]
            return Times([[round(row[stage] * 1e6) for stage in STAGES] for row in times])
        case Ask():
            grey, seen = decode(Path(request.path)), request.seen
            if seen is None:
                hand = runtime.prepare(grey)
                whole = Box(0, 0, grey.shape[1], grey.shape[0])
                seen, pixels = Seen(hand.box, whole, hand.inverted), hand.pixels
            else:
                pixels = runtime.preprocess(grey, seen.box, inverted=seen.inverted)
            return Said(runtime.regress(pixels, male=request.male), seen)


def main(arguments: list[str]) -> int:
    """Serve the bundle that the arguments name; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that measures
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries may print
    serve(Path(arguments[0]), sys.stdin.buffer, answers, *map(int, arguments[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
