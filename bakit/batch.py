"""Many radiographs through one open bundle, several at a time, in bounded memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import TYPE_CHECKING

from bakit.closing import Closing
from bakit.errors import BakitError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from bakit.prediction import Prediction, Sex
    from bakit.preprocess import Image
    from bakit.runtime import Runtime
    from bakit.targets import Session, Tensors

MAX_THREADS = 8
"""Threads when nobody says how many: each holds some 60 MB at the largest sizes."""

_END = object()


class _Queued(Closing):
    """A session that serves one thread at a time."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.provider = session.provider
        self._lock = threading.Lock()

    def run(self, feeds: Tensors) -> Tensors:
        with self._lock:
            return self.session.run(feeds)

    def __getattr__(self, name: str) -> object:
        return getattr(self.session, name)

    def close(self) -> None:
        self.session.__exit__(None, None, None)


def one_at_a_time(session: Session) -> Session:
    """Return a session that many threads may call, whatever its library can do."""
    return session if getattr(session, "concurrent", False) else _Queued(session)


def predict_many(
    runtime: Runtime,
    images: Iterable[Image],
    sexes: Iterable[Sex | None] | Sex | None,
    threads: int | None,
    *,
    allow_rejected: bool,
    thorough: bool,
) -> Iterator[Prediction | BakitError]:
    """Do what ``bakit.Runtime.predict_many`` says."""
    if threads is not None and threads < 1:
        message = f"threads={threads} is not possible; use 1 or more"
        raise InputError(message)
    workers = threads or min(os.cpu_count() or 1, MAX_THREADS)
    one_for_all = sexes is None or isinstance(sexes, str)

    def predict(image: Image, sex: Sex | None) -> Prediction | BakitError:
        try:
            return runtime.predict(image, sex, allow_rejected=allow_rejected, thorough=thorough)
        except BakitError as error:
            return error

    def pairs() -> Iterator[tuple[Image, Sex | None]]:
        those: Iterator[object] = repeat(sexes) if one_for_all else iter(sexes)  # type: ignore[arg-type]
        for image in images:
            sex = next(those, _END)
            if sex is _END:
                message = "there are fewer sexes than images"
                raise InputError(message)
            yield image, sex  # type: ignore[misc]
        if not one_for_all and next(those, _END) is not _END:
            message = "there are more sexes than images"
            raise InputError(message)

    def answers() -> Iterator[Prediction | BakitError]:
        waiting: deque[Future[Prediction | BakitError]] = deque()
        pool = ThreadPoolExecutor(workers, "bakit-predict")
        try:
            for image, sex in pairs():
                waiting.append(pool.submit(predict, image, sex))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # who stops listening does not wait for the rest
            pool.shutdown(wait=True, cancel_futures=True)

    return answers()
