"""Run a bundle in a separate process, on requests from ``bakit.bench.local.process``.

``python -m bakit.bench.local.worker BUNDLE SHA256 HOW`` opens the bundle with this digest (HOW:
options of ``Runtime`` as JSON), predicts once, then reads requests from stdin and writes answers to
stdout until stdin ends.

A request is a method of ``Server`` with its arguments; an answer is what it returns, or ``Failed``.
The first answer is ``Opened``, with the footprint:

* ``load_ms``: time to open both models, with the digests of their bytes; without starting Python,
  imports and the digest check of the bundle.
* ``first_prediction_ms``: time of the first prediction, on the bundle's first golden image. It
  includes work that a backend does lazily (memory, kernels, threads).
* ``peak_rss_mb``: the process's peak resident memory until then, in 10^6 bytes, without GPU memory.
* ``cold_start_ms``: time from starting the process to its first answer, measured by
  ``bakit.bench.local.process``.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bakit import agent
from bakit.bench.local.process import Failed, Opened, Predicted, Seen, send
from bakit.bench.report.latency import Footprint
from bakit.bundle import Bundle
from bakit.errors import BundleError
from bakit.files import printable
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.prediction import is_male
from bakit.runtime import STAGES, Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.runtime import Sex


class Server:
    """An open bundle; its methods are the requests."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._queries: list[tuple[bytes, Sex]] = []

    def load(self, queries: Sequence[tuple[Path, Sex]]) -> None:
        """Load the images of the queries."""
        self._queries = [(path.read_bytes(), sex) for path, sex in queries]

    def run(self, indices: Sequence[int]) -> list[list[int]]:
        """Predict queries by their index; return latencies ``(queries, stages)`` in nanoseconds."""
        rows = []
        for index in indices:  # rejected images are timed too
            times = self._runtime.predict(*self._queries[index], allow_rejected=True).stages_ms
            rows.append([round(times[stage] * 1e6) for stage in STAGES])
        return rows

    def ask(self, path: Path, sex: Sex, seen: Seen | None) -> Predicted:
        """Predict an image; the hand is located first unless ``seen`` is given."""
        runtime, grey = self._runtime, decode(path)
        if seen is None:
            found = runtime.find(grey)
            whole = Box(0, 0, grey.shape[1], grey.shape[0])
            seen = Seen(found.box, whole, found.inverted, found.turn)
        if runtime.whole:  # its graph crops the film itself
            age = runtime.predict(path, sex, allow_rejected=True).age_months
            assert age is not None
            return Predicted(age, seen)
        pixels = runtime.preprocess(grey, seen.box, inverted=seen.inverted, turn=seen.turn)
        return Predicted(runtime.regress(pixels, male=is_male(sex)), seen)


def serve(
    root: Path, digest: str, requests: IO[bytes], answers: IO[bytes], how: dict[str, Any]
) -> None:
    """Open the bundle of this digest and answer requests until they end.

    ``how`` are options of ``Runtime``. After an error, the answer is ``Failed``.
    """
    try:
        bundle = Bundle.read(root)
        if bundle.sha256 != digest:
            message = f"{root}: changed since it was checked; bench again"
            raise BundleError(message)  # noqa: TRY301
        with Runtime(bundle, **how) as runtime:
            footprint = first_use(runtime)
            opened = Opened(runtime.provider, runtime.int8_share, footprint, runtime.executed)
            send(answers, opened)
            server = Server(runtime)
            while True:
                try:
                    name, arguments = pickle.load(requests)  # noqa: S301  # our own process
                except EOFError:
                    return
                send(answers, getattr(server, name)(*arguments))
    except Exception as error:  # libraries may raise anything
        lines = str(error).strip().splitlines() or ["no error message"]
        send(answers, Failed(type(error).__name__, printable(lines[0])))


def first_use(runtime: Runtime) -> Footprint:
    """Predict the first golden image of a newly opened bundle; return the footprint.

    Raises:
        BundleError: If the bundle has no golden image.
    """
    root, golden = runtime.bundle.root, runtime.bundle.manifest.golden
    if not golden:
        message = f"{root}: the bundle has no golden image; export it again"
        raise BundleError(message)
    image = runtime.bundle.files.read(golden[0].path)
    started = time.perf_counter_ns()
    runtime.predict(image, golden[0].sex, allow_rejected=True)
    first_ms = (time.perf_counter_ns() - started) / 1e6
    return Footprint(runtime.load_ms, first_ms, peak_rss_mb())


def peak_rss_mb() -> float | None:
    """Return this process's peak resident memory, in 10^6 bytes; None if unknown.

    On Linux it is the agent's, because ``ru_maxrss`` includes the parent's peak.
    """
    if sys.platform in {"linux", "win32"}:
        return agent.peak_rss_mb()
    import resource  # noqa: PLC0415  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main(arguments: list[str]) -> int:
    """Serve the bundle named by the arguments; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the measuring process handles Ctrl-C
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries may print to stdout
    root, digest, how = arguments
    serve(Path(root), digest, sys.stdin.buffer, answers, json.loads(how))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
