"""Start one process for each bundle (``bakit.bench.local.worker``), so that a crash ends only one.

The bundles run alternately: one worker at a time gets a block of queries, and the others wait.
Messages are pickled: both processes are ours.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import signal
import subprocess
import tempfile
import threading
import time
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import msgspec

from bakit import errors
from bakit.errors import ImageError, MissingBackendError
from bakit.processes import python_command
from bakit.session import Closing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bench.report.latency import Footprint
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.image.box import Box
    from bakit.runtime import Sex
    from bakit.session import Executed

OPEN_S = 7200.0
"""Longest time to open a bundle; TensorRT may build an engine."""
ANSWER_S = 1800.0
"""Longest time of a block of queries."""


class Seen(NamedTuple):
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


class Opened(NamedTuple):
    """The first answer, after the bundle was opened and predicted once; fields of ``RawBundle``."""

    provider: str = ""
    int8_share: float = 0.0
    footprint: Footprint | None = None
    executed: tuple[Executed, ...] = ()


class Predicted(NamedTuple):
    """The predicted age of an image, and the location of its hand."""

    age_months: float
    seen: Seen


class Failed(NamedTuple):
    """The request failed: class and message of the error."""

    kind: str
    message: str


def send(stream: IO[bytes], message: object) -> None:
    """Write a message; an ``OSError`` means that the other process has ended."""
    stream.write(pickle.dumps(message))
    stream.flush()


class WorkerError(Exception):
    """A bundle's process failed; ``Worker.error`` is the reason."""


class Worker(Closing):
    """A bundle, open in a separate process; a context manager.

    Requests raise ``WorkerError`` if the process failed.

    Attributes:
        error: Reason of the failure; None if it has not failed. A failed worker answers no
            further requests.
        opened: What the bundle reported when it was opened; empty if it did not open.

    Raises:
        MissingBackendError: If the target's library is not installed.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None, **how: object) -> None:
        self.bundle = bundle
        self.threads = threads
        self.error: str | None = None
        self.opened = Opened()
        words = [str(bundle.root.resolve()), bundle.sha256, json.dumps(how | {"threads": threads})]
        command = python_command("bakit.bench.local.worker", *words)
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        started = time.perf_counter_ns()
        self._process = subprocess.Popen(  # noqa: S603  # our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
        )
        self.pid = self._process.pid
        try:
            self.opened = self._answer(OPEN_S)
        except WorkerError:
            return
        except BaseException:
            self.close()
            raise
        cold_ms = (time.perf_counter_ns() - started) / 1e6
        assert self.opened.footprint is not None
        footprint = msgspec.structs.replace(self.opened.footprint, cold_start_ms=cold_ms)
        self.opened = self.opened._replace(footprint=footprint)

    def load(self, queries: Sequence[tuple[Path, Sex]]) -> None:
        """Load the images of the queries into the worker's memory."""
        self._ask("load", [(path.resolve(), sex) for path, sex in queries])

    def run(self, indices: Sequence[int]) -> list[list[int]]:
        """Predict queries by their index; return latencies ``(queries, stages)`` in nanoseconds."""
        times: list[list[int]] = self._ask("run", list(indices))
        return times

    def ask(self, sample: Sample, seen: Seen | None = None) -> Predicted:
        """Predict an image; the hand is located first unless ``seen`` is given.

        Raises:
            ImageError: If the image cannot be used.
        """
        sex = "M" if sample.male else "F"
        predicted: Predicted = self._ask("ask", sample.path.resolve(), sex, seen)
        return predicted

    def fail(self, reason: str) -> None:
        """Mark this bundle as failed; the first reason is kept."""
        self.error = self.error or reason

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # it may have ended before reading a request
                    stream.close()
        self._process.kill()
        self._process.wait()
        self._stderr.close()

    def _ask(self, name: str, *arguments: object) -> Any:  # noqa: ANN401  # of ``Server``
        if self.error is not None:
            raise WorkerError(self.error)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: the answer has the reason
            send(self._process.stdin, (name, arguments))
        return self._answer()

    def _answer(self, seconds: float = ANSWER_S) -> Any:  # noqa: ANN401
        assert self._process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self._process.kill()  # a stopped process ends, too

        clock = threading.Timer(seconds, end)
        clock.daemon = True
        clock.start()
        try:
            answer = pickle.load(self._process.stdout)  # noqa: S301  # our own process
        except (EOFError, pickle.UnpicklingError):
            reason = self._exit_reason()
            self.fail(f"its process gave no answer in {seconds:g} s" if late.is_set() else reason)
            raise WorkerError(self.error) from None
        finally:
            clock.cancel()
        if isinstance(answer, Failed):
            self._raise(answer)
        return answer

    def _raise(self, failed: Failed) -> None:
        """Raise errors of the input or the installation; any other error is the bundle's."""
        for cause in (ImageError, MissingBackendError):
            if failed.kind == cause.__name__:
                error = cause.__new__(cause)
                Exception.__init__(error, failed.message)
                raise error
        ours = isinstance(getattr(errors, failed.kind, None), type)
        self.fail(failed.message if ours else f"{failed.kind}: {failed.message}")
        raise WorkerError(self.error)

    def _exit_reason(self) -> str:
        status = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        how = f"exit status {status}"
        if status < 0:
            known = {int(number): number.name for number in signal.Signals}
            how = known.get(-status, f"signal {-status}")
        last = f": {lines[-1].strip()}" if lines else ""
        return f"its process ended with {how}{last}"
