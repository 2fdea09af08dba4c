"""An open model: its inputs and outputs, how it runs, and how it is closed."""

from __future__ import annotations

import math
import threading
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

from bakit.errors import BakitError, BundleError, InputError, first_line
from bakit.settings import StudentSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
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
        shape: Its shape; images are ``(N, C, H, W)``; -1 stands for any length.
        dtype: NumPy's name of the dtype, such as ``float32``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


Specs: TypeAlias = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
"""Inputs and outputs of a model."""

_HIGHEST = {"labels": 511, "hand": 1.001}
"""Largest value of the localizers' outputs, whose smallest is 0; ages are not bounded."""


def describe_specs(specs: Specs) -> str:
    """Return inputs and outputs in one line."""
    sides = [", ".join(f"{s.name} {s.shape} {s.dtype}" for s in side) for side in specs]
    return " -> ".join(sides)


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


def whole_specs(
    architecture: Architecture, preprocessing: Preprocessing, settings: LocalizerSettings
) -> Specs:
    """Return inputs and outputs of the whole graph, from a film to its age.

    Inputs: ``film (H, W)`` uint8, the grey values; ``sex`` as for the regressor. Outputs:
    ``age_months``; ``box (4,)`` int64, the hand's x0, y0, x1, y1, the whole film without one;
    ``hand_confidence (1,)`` 0..1, 0 without a hand; ``inverted (1,)`` bool; ``second (1,)`` and
    ``border (1,)`` as in ``bakit.hand.found.Scores``; the localizer's ``hand`` and the
    regressor's ``image``.
    """
    (image, *sex), ages = regressor_specs(architecture, preprocessing)
    _, hand = localizer_specs(settings)
    found = [TensorSpec("box", (4,), "int64"), TensorSpec("hand_confidence", (1,))]
    found += [TensorSpec("inverted", (1,), "bool")]
    found += [TensorSpec(name, (1,)) for name in ("second", "border")]
    return (TensorSpec("film", (-1, -1), "uint8"), *sex), (*ages, *found, *hand, image)


def specs_of(
    role: str,
    architecture: Architecture,
    preprocessing: Preprocessing,
    settings: LocalizerSettings,
) -> Specs:
    """Return inputs and outputs of a model by its role in a bundle."""
    if role == "localizer":
        return localizer_specs(settings)
    if role == "whole":
        return whole_specs(architecture, preprocessing, settings)
    return regressor_specs(architecture, preprocessing)


class Executed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Share of a model's multiply-adds, 0..1, that one unit runs in one number format.

    ``unit`` is the library and device, such as ``litert-xnnpack``; ``precision`` is ``f32``,
    ``int8``, as the library names it, or ``unknown format`` if it does not tell.
    """

    unit: str
    precision: str
    share: float


def executed_shares(layers: Iterable[tuple[str, str, int]]) -> tuple[Executed, ...]:
    """Return the shares of units and number formats, the largest first.

    A layer is its unit, number format and multiply-adds.
    """
    sums: Counter[tuple[str, str]] = Counter()
    for unit, precision, products in layers:
        sums[unit, precision] += products
    total = sums.total()
    return tuple(
        Executed(*key, round(products / total, 6))
        for key, products in sums.most_common()
        if products
    )


def int8_share(executed: Iterable[Executed]) -> float:
    """Return the share of the multiply-adds that ran in INT8; an unknown number format is none."""
    return math.fsum(item.share for item in executed if item.precision == "int8")


class Session(AbstractContextManager["Session"], Protocol):
    """A model that is open on this machine; a context manager.

    If several threads may call ``run`` at once, the session sets ``concurrent = True``; otherwise
    bakit makes the calls one after the other.

    If it has ``specs``, its inputs and outputs (``Specs``), bakit compares them with the manifest;
    -1 stands for a dimension that the model does not fix.

    If its library tells which unit runs what, it has ``executed`` (``Executed``).

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


class Gate:
    """Counts the running calls of a resource; closing it waits for them and refuses new ones."""

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self._condition = threading.Condition()
        self._running = 0
        self._closed = False

    def __enter__(self) -> None:
        """Count a call.

        Raises:
            InputError: If the gate is closed.
        """
        with self._condition:
            if self._closed:
                message = f"{self._resource}: it was closed; open it again to predict"
                raise InputError(message)
            self._running += 1

    def __exit__(self, *_: object) -> None:
        """Count the end of a call."""
        with self._condition:
            self._running -= 1
            self._condition.notify_all()

    def close(self) -> None:
        """Refuse new calls, and wait until the running ones have ended."""
        with self._condition:
            self._closed = True
            self._condition.wait_for(lambda: not self._running)


class GuardedSession(Closing):
    """A session that many threads may use, and that answers as the manifest declares.

    It closes the backend's session. ``specs`` are the inputs and outputs in the manifest.
    """

    def __init__(self, session: Session, specs: Specs, model: str) -> None:
        self.session = session
        self.provider = session.provider
        self._specs = specs
        self._model = model
        self._gate = Gate(model)
        is_concurrent = getattr(session, "concurrent", False)
        self._turn = nullcontext() if is_concurrent else threading.Lock()

    def check_specs(self) -> None:
        """Compare the opened model's inputs and outputs with the manifest.

        Raises:
            BundleError: If they differ.
        """
        found: Specs | None = getattr(self.session, "specs", None)
        if found is not None and not all(map(_agree, found, self._specs)):
            message = (
                f"{self._model}: the model has {describe_specs(found)}; the manifest declares "
                f"{describe_specs(self._specs)}; export it again"
            )
            raise BundleError(message)

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays.

        Raises:
            BundleError: If the model cannot run, or its outputs are not those of the manifest.
            InputError: If the session was closed.
        """
        with self._gate, self._turn:
            try:
                outputs = self.session.run(feeds)
            except (BakitError, MemoryError):
                raise
            except Exception as error:  # libraries' errors have no common base
                message = f"{self._model}: {self.provider} cannot run it: {first_line(error)}"
                raise BundleError(message) from error
        for spec in self._specs[1]:
            array = outputs.get(spec.name)
            shape, dtype = (getattr(array, name, None) for name in ("shape", "dtype"))
            if array is None or (shape, str(dtype)) != (spec.shape, spec.dtype):
                wanted = describe_specs(self._specs)
                message = f"{self._model}: its outputs are not those of the manifest, {wanted}"
                raise BundleError(message)
            highest = _HIGHEST.get(spec.name)
            if highest is not None and not 0 <= array.min() <= array.max() <= highest:
                message = f"{self._model}: {spec.name} outside 0..{highest:g}; export it again"
                raise BundleError(message)
        return outputs

    def __getattr__(self, name: str) -> object:
        return getattr(self.session, name)

    def close(self) -> None:
        """Wait for running calls, and free the model."""
        self._gate.close()
        self.session.__exit__(None, None, None)


def _agree(found: tuple[TensorSpec, ...], declared: tuple[TensorSpec, ...]) -> bool:
    """Return whether a model's inputs or outputs are the declared ones, in any order."""
    named = {spec.name: spec for spec in found}
    return len(found) == len(declared) and all(
        spec.name in named
        and named[spec.name].dtype == spec.dtype
        and len(named[spec.name].shape) == len(spec.shape)
        and all(a in (-1, b) for a, b in zip(named[spec.name].shape, spec.shape, strict=True))
        for spec in declared
    )
