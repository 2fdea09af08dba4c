"""Run a bundle in a separate process, on requests from ``bakit.bench.local.process``.

``python -m bakit.bench.local.worker BUNDLE SHA256 GRAPHS [THREADS]`` opens the bundle with this
digest (GRAPHS: ``whole`` for the whole graph, else ``two``), predicts once, then reads requests
from stdin and writes answers to stdout until stdin ends.

A message is its length in four bytes, then a MessagePack document (JSON has no NaN, which a broken
model may predict). The first answer contains the footprint:

* ``load_ms``: time to open both models, with the digests of their bytes; without starting Python,
  imports and the digest check of the bundle.
* ``first_prediction_ms``: time of the first prediction, on the bundle's first golden image. It
  includes work that a backend does lazily (memory, kernels, threads).
* ``peak_rss_mb``: the process's peak resident memory until then, in 10^6 bytes, without GPU memory.
* ``cold_start_ms``: time from starting the process to its first answer, measured by
  ``bakit.bench.local.process``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Literal, TypeAlias

import msgspec

from bakit.bench.report.latency import Footprint
from bakit.bundle import Bundle
from bakit.errors import BundleError
from bakit.files import printable
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.runtime import STAGES, Runtime, Sex
from bakit.session import Executed


class Load(msgspec.Struct, tag=True, frozen=True):
    """Load the images of the queries, as ``(path, sex)``; paths are bytes, as in the system."""

    queries: tuple[tuple[bytes, Literal["M", "F"]], ...]


class Run(msgspec.Struct, tag=True, frozen=True):
    """Predict queries by their index, one after the other."""

    indices: tuple[int, ...]


class Seen(msgspec.Struct, frozen=True):
    """The location of a hand in an image.

    Attributes:
        box: The hand's box, in pixels of the image; None without a localizer or a found hand.
        whole: The box of the whole image.
        inverted: Whether the hand is dark, so that its grey values must be inverted.
        turn: Anticlockwise quarter turns that make the hand upright.
    """

    box: Box | None
    whole: Box
    inverted: bool = False
    turn: int = 0


class Ask(msgspec.Struct, tag=True, frozen=True):
    """Predict the age of an image; the hand is located first unless ``seen`` is given."""

    path: bytes
    male: bool
    seen: Seen | None = None


class Opened(msgspec.Struct, tag=True, frozen=True):
    """The first answer, after the bundle was opened and predicted once."""

    provider: str
    int8_share: float
    footprint: Footprint
    executed: tuple[Executed, ...] = ()


class Done(msgspec.Struct, tag=True, frozen=True):
    """The images were loaded."""


class Times(msgspec.Struct, tag=True, frozen=True):
    """Latency of each query by stage, ``(queries, stages)``, in nanoseconds."""

    stages_ns: list[list[int]]


class Predicted(msgspec.Struct, tag=True, frozen=True):
    """The predicted age of an image, and the location of its hand."""

    age_months: float
    seen: Seen


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The request failed: class and message of the error."""

    kind: str
    message: str


Request: TypeAlias = Load | Run | Ask
Answer: TypeAlias = Opened | Done | Times | Predicted | Failed


def write_document(stream: IO[bytes], document: Request | Answer) -> None:
    """Write a document; an ``OSError`` means that the other process has ended."""
    data = msgspec.msgpack.encode(document)
    stream.write(len(data).to_bytes(4, "little") + data)
    stream.flush()


def read_document(stream: IO[bytes]) -> bytes | None:
    """Return the next document; None at the end of the stream."""
    head = stream.read(4)
    size = int.from_bytes(head, "little")
    data = stream.read(size) if len(head) == 4 else b""
    return data if len(head) == 4 and len(data) == size else None


def serve(
    root: Path,
    digest: str,
    requests: IO[bytes],
    answers: IO[bytes],
    threads: int | None = None,
    *,
    whole: bool = False,
) -> None:
    """Open the bundle of this digest and answer requests until they end.

    After an error, the answer is ``Failed``.
    """
    try:
        bundle = Bundle.read(root)
        if bundle.sha256 != digest:
            message = f"{root}: changed since it was checked; bench again"
            raise BundleError(message)  # noqa: TRY301
        with Runtime(bundle, threads, whole=whole) as runtime:
            footprint = first_use(runtime)
            opened = Opened(runtime.provider, runtime.int8_share, footprint, runtime.executed)
            write_document(answers, opened)
            queries: list[tuple[bytes, Sex]] = []
            while (data := read_document(requests)) is not None:
                request: Request = msgspec.msgpack.decode(data, type=Request)
                write_document(answers, answer(runtime, queries, request))
    except Exception as error:  # libraries may raise anything
        lines = str(error).strip().splitlines() or ["no error message"]
        write_document(answers, Failed(type(error).__name__, printable(lines[0])))


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

    On Linux it is read from ``VmHWM``, because ``ru_maxrss`` includes the parent's peak.
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
    """Answer a request; ``queries`` are the loaded images."""
    match request:
        case Load():
            paths = [(Path(os.fsdecode(path)), sex) for path, sex in request.queries]
            queries[:] = [(path.read_bytes(), sex) for path, sex in paths]
            return Done()
        case Run():
            # Rejected images are timed too.
            chosen = [queries[index] for index in request.indices]
            times = [runtime.predict(*query, allow_rejected=True).stages_ms for query in chosen]
            return Times([[round(row[stage] * 1e6) for stage in STAGES] for row in times])
        case Ask():
            path = Path(os.fsdecode(request.path))
            grey, seen = decode(path), request.seen
            if seen is None:
                found = runtime.find(grey)
                whole = Box(0, 0, grey.shape[1], grey.shape[0])
                seen = Seen(found.box, whole, found.inverted, found.turn)
            if runtime.whole:  # its graph crops the film itself
                age = runtime.predict(path, "M" if request.male else "F", allow_rejected=True)
                assert age.age_months is not None
                return Predicted(age.age_months, seen)
            pixels = runtime.preprocess(grey, seen.box, inverted=seen.inverted, turn=seen.turn)
            return Predicted(runtime.regress(pixels, male=request.male), seen)


def main(arguments: list[str]) -> int:
    """Serve the bundle named by the arguments; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the measuring process handles Ctrl-C
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries may print to stdout
    root, digest, graphs, *threads = arguments
    whole = graphs == "whole"
    serve(Path(root), digest, sys.stdin.buffer, answers, *map(int, threads), whole=whole)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
