"""ONNX Runtime, on a CPU or with another of its providers."""

from __future__ import annotations

from functools import cached_property, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import onnxruntime

from bakit import agent
from bakit.backends.providers import find_provider
from bakit.errors import BundleError, MissingProgramError
from bakit.session import Closing, TensorSpec, executed_shares

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Executed, Tensors
    from bakit.targets import Backend

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
"""NumPy's names of types; the others' names are in brackets."""


class OrtSession(Closing):
    """An ONNX model, opened in ONNX Runtime (``bakit.agent.open_onnx``).

    Attributes:
        provider: The chosen one, with the number of its nodes if it did not take all.
        specs: Its inputs and outputs.

    Raises:
        BundleError: If the model cannot be loaded.
        MissingProgramError: If the provider does not start.
    """

    concurrent = True

    read: Callable[[], bytes] | None = None
    """Returns the model's bytes again, for ``executed``."""

    def __init__(
        self,
        model: bytes,
        threads: int = 1,
        *,
        name: str = "the model",
        prepack: bool = True,
        provider: str = agent.CPU,
    ) -> None:
        try:
            self._session: Any = agent.open_onnx(model, name, threads, provider, prepack)
        except agent.ProviderError as error:
            raise _missing(error) from error
        except agent.AgentError as error:
            raise BundleError(str(error)) from error
        self.provider = agent.provider_words(self._session, model, provider)
        self._chosen = provider
        self._session._model_bytes = b""  # a copy of its weights
        self.specs = _specs(self._session.get_inputs()), _specs(self._session.get_outputs())
        self._inputs, self._outputs = ([spec.name for spec in side] for side in self.specs)

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, which may be more, output names to arrays."""
        fed = {name: feeds[name] for name in self._inputs}
        return dict(zip(self._outputs, self._session.run(None, fed), strict=True))

    @cached_property
    def executed(self) -> tuple[Executed, ...]:
        """Shares of the multiply-adds by provider and number format; empty if unknown."""
        if self.read is None:
            return ()
        return executed_shares(agent.layers_run(self.read(), self._chosen))

    def close(self) -> None:
        """Free the model."""
        self._session = None


def _missing(error: agent.ProviderError) -> MissingProgramError:
    need, _, remedy = str(error).partition("; ")
    return MissingProgramError(need, remedy)


def _specs(arguments: list[Any]) -> tuple[TensorSpec, ...]:
    """Return inputs or outputs; a dimension without a number is -1."""
    return tuple(
        TensorSpec(
            item.name,
            tuple(size if isinstance(size, int) else -1 for size in item.shape),
            _DTYPES.get(item.type, item.type.removeprefix("tensor(").removesuffix(")")),
        )
        for item in arguments
    )


def open_session(
    files: SealedFiles, artifact: Artifact, threads: int, provider: str = agent.CPU
) -> OrtSession:
    """Open an ONNX file without external data.

    Raises:
        BundleError: If it cannot be loaded, or refers to another file.
        MissingProgramError: If the provider does not start.
    """
    data = files.read_onnx(artifact.path)
    name, is_int8 = str(files.root / artifact.path), artifact.int8_share > 0
    session = OrtSession(data, threads, name=name, prepack=is_int8, provider=provider)
    session.read = partial(files.read_onnx, artifact.path)
    return session


def with_provider(name: str) -> Backend:
    """Return this backend with a provider (``bakit.backends.providers``).

    Raises:
        InputError: If it is unknown.
        MissingProgramError: If ONNX Runtime has it not here.
    """
    name = find_provider(name)
    try:
        agent.load_provider(name)
    except agent.ProviderError as error:
        raise _missing(error) from error
    opened = partial(open_session, provider=name)
    return cast("Backend", SimpleNamespace(onnxruntime=onnxruntime, open_session=opened))


def probe() -> str:
    """Return the providers in words."""
    return ", ".join(onnxruntime.get_available_providers())
