"""SIGTERM and SIGHUP as Ctrl-C, and none of them lost."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_AGAIN_S = 0.1
"""Seconds until a signal that came at a bad moment is tried again."""


class Interrupts:
    """Raises ``KeyboardInterrupt`` for a signal, so that temporary files go and results are kept.

    It waits while a module is imported or a process is started, unless a second signal comes:
    extension modules, such as those that Cython makes, drop errors while they start, and a pool
    would not know the process.

    Attributes:
        received: The signals, in order.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._again = False
        self._timer: threading.Timer | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        again, self._again = self._again, False
        if not again:
            self.received.append(number)
            if number == getattr(signal, "SIGHUP", None) and self.received.count(number) > 1:
                return  # of one closed terminal: the kernel and the shell send it
        if len(self.received) == 1 and _starts(frame):
            self._later(number)
            return
        self.forget()
        raise KeyboardInterrupt

    def forget(self) -> None:
        """Do not try a signal again."""
        if self._timer:
            self._timer.cancel()

    def dropped(self, error: sys.UnraisableHookArgs) -> None:
        """Handle an error that Python drops, as in the callback of a weak reference."""
        if self.received and issubclass(error.exc_type, KeyboardInterrupt):
            self._later(self.received[-1])
        else:
            sys.__unraisablehook__(error)

    def _later(self, number: int) -> None:
        self._timer = threading.Timer(_AGAIN_S, self._send, [number])
        self._timer.start()

    def _send(self, number: int) -> None:
        self._again = True
        if hasattr(signal, "pthread_kill"):  # a real signal also ends a wait for a lock
            signal.pthread_kill(cast("int", threading.main_thread().ident), number)
        else:
            _thread.interrupt_main(signal.Signals(number))


def _starts(frame: FrameType | None) -> bool:
    """Return whether a module is imported, or a process of multiprocessing started."""
    while frame:
        place = (frame.f_globals.get("__name__"), frame.f_code.co_name)
        if place == ("multiprocessing.process", "_bootstrap"):
            return False  # a forked process: further out are its parent's frames
        if place == ("multiprocessing.process", "start") or (
            frame.f_code.co_filename.startswith("<frozen importlib")
        ):
            return True
        frame = frame.f_back
    return False


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Treat SIGTERM and SIGHUP as Ctrl-C in a block.

    Yields:
        The signals that were received.
    """
    handler = Interrupts()
    if threading.current_thread() is not threading.main_thread():  # Python allows it only there
        yield handler.received
        return
    # nohup ignores SIGHUP on purpose, and a shell SIGINT for a job in the background.
    before = {
        number: found
        for name in ("SIGINT", "SIGTERM", "SIGHUP")
        if (number := getattr(signal, name, None))
        and (found := signal.getsignal(number)) in {signal.SIG_DFL, signal.default_int_handler}
    }
    hook, sys.unraisablehook = sys.unraisablehook, handler.dropped
    for number in before:
        signal.signal(number, handler)
    try:
        yield handler.received
    finally:
        handler.forget()
        for number, found in before.items():
            signal.signal(number, found)
        sys.unraisablehook = hook
