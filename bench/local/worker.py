"""A bundle in a process of its own, which answers requests (``bakit.bench.local.process`` asks).

``python -m bakit.bench.local.worker BUNDLE [THREADS]`` opens the bundle, uses it once, and answers
the requests on stdin on stdout, until they end.

Messages are MessagePack documents after their length in four bytes. JSON has no NaN, which a broken
model may predict. The first answer holds the footprint:

* ``load_ms``: opening both models, with the digests of their bytes. Starting Python, importing
  libraries and checking the bundle's digests come before it and are not in it.
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
from typing import IO, Literal, TypeAlias

import msgspec

from bakit.bench.report.latency import Footprint
from bakit.errors import BundleError
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.runtime import STAGES, Runtime, Sex


class Load(msgspec.Struct, tag=True, frozen=True):
    """Read the images of the queries, as ``(path, sex)``."""

    queries: tuple[tuple[str, Literal["M", "F"]], ...]


class Run(msgspec.Struct, tag=True, frozen=True):
    """Predict these queries, one after the other."""

    indices: tuple[int, ...]


class Seen(msgspec.Struct, frozen=True):
    """The place of a hand in an image.

    Attributes:
        box: The hand, in pixels of the image; None if none was found or looked for.
        whole: The whole image.
        inverted: Whether the hand is dark, so that greys are inverted.
    """

    box: Box | None
    whole: Box
    inverted: bool = False


class Ask(msgspec.Struct, tag=True, frozen=True):
    """Predict the age of an image; locate the hand first unless ``seen`` is given."""

    path: str
    male: bool
    seen: Seen | None = None


class Opened(msgspec.Struct, tag=True, frozen=True):
    """The first answer: the bundle is open and was used once."""

    provider: str
    int8_share: float
    footprint: Footprint


class Done(msgspec.Struct, tag=True, frozen=True):
    """The images are read."""


class Times(msgspec.Struct, tag=True, frozen=True):
    """Time of each query by stage, ``(queries, stages)``, in nanoseconds."""

    stages_ns: list[list[int]]


class Said(msgspec.Struct, tag=True, frozen=True):
    """An image's age, and where the hand was seen."""

    age_months: float
    seen: Seen


class Failed(msgspec.Struct, tag=True, frozen=True):
    """The request could not be met: the error's class and what it says."""

    kind: str
    message: str


Request: TypeAlias = Load | Run | Ask
Answer: TypeAlias = Opened | Done | Times | Said | Failed


def write_document(stream: IO[bytes], document: Request | Answer) -> None:
    """Write a document; an ``OSError`` means that the other side has ended."""
    data = msgspec.msgpack.encode(document)
    stream.write(len(data).to_bytes(4, "little") + data)
    stream.flush()


def read_document(stream: IO[bytes]) -> bytes | None:
    """Return the next document, None if there is none."""
    head = stream.read(4)
    size = int.from_bytes(head, "little")
    data = stream.read(size) if len(head) == 4 else b""
    return data if len(head) == 4 and len(data) == size else None


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
