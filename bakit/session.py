"""An open model: its inputs and outputs, how it runs, and how it is closed."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, TypeAlias

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


Specs: TypeAlias = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
"""Inputs and outputs of a model."""


def regressor_specs(architecture: Architecture, preprocessing: Preprocessing) -> Specs:
    """Return inputs and outputs of the regressor.

    Inputs: ``image (1, 1, S, S)`` in 0..1 and, if the model uses it, ``sex (1, 1)``, male 1.
    Output: ``age_months (1, 1)``.
    """
    size = preprocessing.image_size
    inputs = [TensorSpec("image", (1, 1, size, size))]
    if architecture.sex:
        inputs.append(TensorSpec("sex", (1, 1)))
    return tuple(inputs), (TensorSpec("age_months", (1, 1)),)


def localizer_specs(settings: LocalizerSettings) -> Specs:
    """Return inputs and outputs of the localizer.

    Input: ``image (1, 1, h, w)`` in 0..1. Output: ``labels (h, w)`` int32, or the student's
    probabilities ``hand (h, w)`` float32.
    """
    size = settings.size
    output = TensorSpec("labels", (size, size), "int32")
    if isinstance(settings, StudentSettings):
        output = TensorSpec("hand", (size, size))
    return (TensorSpec("image", (1, 1, size, size)),), (output,)


class Session(AbstractContextManager["Session"], Protocol):
    """A model that is open on this machine; a context manager.

    If several threads may call ``run`` at once, the session sets ``concurrent = True``; otherwise
    bakit makes the calls one after the other.

    Attributes:
        provider: Name of the library and device that run it, such as ``CPUExecutionProvider``.
    """

    provider: str

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        ...


class Closing:
    """Base class for context managers that close themselves."""

    def close(self) -> None:
        """Free the resources; the default does nothing."""

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
    """Return a session that many threads may call at once."""
    return session if getattr(session, "concurrent", False) else _Queued(session)
