"""A bundle in a process of its own, which answers requests (``bakit.bench.local.process`` asks).

``python -m bakit.bench.local.worker BUNDLE [THREADS]`` opens the bundle, uses it once, and answers
the requests on stdin on stdout, until they end.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import IO

import msgspec

from bakit.bench.local.footprint import first_use
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
from bakit.image.box import Box
from bakit.image.read import decode
from bakit.runtime import STAGES, Runtime, Sex


def serve(root: Path, requests: IO[bytes], answers: IO[bytes], threads: int | None = None) -> None:
    """Open a bundle and answer requests until they end; the last answer to an error is ``Failed``.

    Args:
        root: The bundle's folder.
        requests: Where requests are read.
        answers: Where answers are written.
        threads: Threads of the backend; its own choice when None.
    """
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
            grey = decode(Path(request.path))
            box, inverted = request.box, request.inverted
            if request.find:
                hand = runtime.prepare(grey)
                box, inverted, pixels = hand.box, hand.inverted, hand.pixels
            else:
                pixels = runtime.preprocess(grey, box, inverted=inverted)
            age = runtime.regress(pixels, male=request.male)
            return Said(age, Seen(box, Box(0, 0, grey.shape[1], grey.shape[0]), inverted))


def main(arguments: list[str]) -> int:
    """Serve the bundle that the arguments name; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that measures
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries may print
    serve(Path(arguments[0]), sys.stdin.buffer, answers, *map(int, arguments[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
