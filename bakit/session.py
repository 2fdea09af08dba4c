"""An open model: what goes in, what comes out, and how it is closed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

import msgspec

from bakit.settings import StudentSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from bakit.settings import Architecture, LocalizerSettings, Preprocessing

    Tensors = Mapping[str, npt.NDArray[np.generic]]


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name, shape and dtype of one input or output.

    Attributes:
        name: Its name in the model file.
        shape: Static shape; images are ``(N, C, H, W)``.
        dtype: NumPy's name of the dtype, such as ``float32``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


def regressor_inputs(
    architecture: Architecture, preprocessing: Preprocessing
) -> tuple[TensorSpec, ...]:
    """Return the inputs: ``image (1, 1, S, S)`` in 0..1 and, if used, ``sex (1, 1)``, male 1."""
    size = preprocessing.image_size
    image = TensorSpec("image", (1, 1, size, size))
    return (image, TensorSpec("sex", (1, 1))) if architecture.sex else (image,)


def regressor_outputs() -> tuple[TensorSpec, ...]:
    """Return the output: ``age_months (1, 1)``."""
    return (TensorSpec("age_months", (1, 1)),)


def localizer_inputs(settings: LocalizerSettings) -> tuple[TensorSpec, ...]:
    """Return the input: the working image, ``(1, 1, h, w)`` in 0..1."""
    return (TensorSpec("image", (1, 1, settings.size, settings.size)),)


def localizer_outputs(settings: LocalizerSettings) -> tuple[TensorSpec, ...]:
    """Return the output: ``labels (h, w)`` int32, or the student's ``hand (h, w)`` float32."""
    if isinstance(settings, StudentSettings):
        return (TensorSpec("hand", (settings.size, settings.size)),)
    return (TensorSpec("labels", (settings.size, settings.size), "int32"),)


class Session(Protocol):
    """A model that is open on this machine; a context manager.

    Attributes:
        provider: What runs it, such as ``CPUExecutionProvider``.

    A session whose ``run`` many threads may call at once sets ``concurrent = True``; calls of
    others are made one after the other.
    """

    provider: str

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        ...

    def __enter__(self) -> Session:
        """Return the session itself."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free what the model holds."""
        ...


class Closing:
    """Base class for context managers that close themselves."""

    def close(self) -> None:
        """Free what is held; nothing, unless a class does otherwise."""

    def __enter__(self) -> Self:
        """Return the object itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


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
