"""The float checkpoint itself, run by torch: the reference of every other target."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from bakit.errors import BundleError
from bakit.model.checkpoint import Checkpoint
from bakit.model.localizers import draw_hand, localize_autograd
from bakit.model.regressor import regressor_from_weights
from bakit.session import Closing, specs_of
from bakit.settings import StudentSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Specs, Tensors
    from bakit.types import Weights

    Predict = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]


class TorchSession(Closing):
    """One of the two models of a checkpoint.

    Args:
        specs: Its inputs and outputs.
        predict: Returns the output from the inputs by name.
    """

    provider = "torch-cpu"
    concurrent = True

    def __init__(self, specs: Specs, predict: Predict) -> None:
        self.specs = specs
        self._predict = predict

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        return {self.specs[1][0].name: self._predict(_tensors(feeds)).numpy()}


def _regressor(checkpoint: Checkpoint) -> Predict:
    model = regressor_from_weights(checkpoint.header.architecture, _tensors(checkpoint.regressor))
    girl = torch.zeros(1, 1)
    return torch.inference_mode()(lambda feeds: model(feeds["image"], feeds.get("sex", girl)))


def _localizer(checkpoint: Checkpoint) -> Predict:
    settings, weights = checkpoint.header.localizer, _tensors(checkpoint.localizer)
    if isinstance(settings, StudentSettings):
        return torch.inference_mode()(
            lambda feeds: draw_hand(feeds["image"], weights, settings)[0, 0]
        )
    return lambda feeds: localize_autograd(feeds["image"][0, 0], weights, settings)


def _tensors(arrays: Mapping[str, npt.NDArray[np.generic]] | Weights) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}


@lru_cache(maxsize=1)  # both roles live in one file
def _read(path: Path, digest: str) -> Checkpoint:
    """Read a checkpoint with this digest."""
    checkpoint = Checkpoint.read(path)
    if checkpoint.sha256 != digest:
        message = f"{path}: changed since it was exported (SHA-256 differs); export it again"
        raise BundleError(message)
    return checkpoint


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> TorchSession:
    """Open one of the two models of a checkpoint file.

    Raises:
        BundleError: If the file was changed.
        CheckpointError: If it is not a checkpoint.
    """
    torch.set_num_threads(threads)  # torch has one setting for the process
    checkpoint = _read(files.path(artifact.path), artifact.sha256)
    header = checkpoint.header
    specs = specs_of(artifact.role, header.architecture, header.preprocessing, header.localizer)
    predict = _regressor if artifact.role == "regressor" else _localizer
    return TorchSession(specs, predict(checkpoint))
