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
from bakit.session import Closing, localizer_specs, regressor_specs
from bakit.settings import StudentSettings

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Specs, Tensors


class _EagerSession(Closing):
    """Base class of both sessions."""

    provider = "torch-cpu"
    concurrent = True

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.header = checkpoint.header
        self.specs = self._specs()

    def _specs(self) -> Specs:
        raise NotImplementedError

    def run(self, feeds: Tensors) -> Tensors:
        raise NotImplementedError


class _RegressorSession(_EagerSession):
    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        weights = {name: torch.from_numpy(value) for name, value in checkpoint.regressor.items()}
        self._model = regressor_from_weights(self.header.architecture, weights)

    def _specs(self) -> Specs:
        return regressor_specs(self.header.architecture, self.header.preprocessing)

    def run(self, feeds: Tensors) -> Tensors:
        """Return ``age_months (1, 1)``."""
        image = torch.from_numpy(np.ascontiguousarray(feeds["image"]))
        sex = torch.from_numpy(np.ascontiguousarray(feeds.get("sex", np.zeros((1, 1), np.float32))))
        with torch.inference_mode():
            return {"age_months": self._model(image, sex).numpy()}


class _LocalizerSession(_EagerSession):
    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._weights = {name: torch.from_numpy(v) for name, v in checkpoint.localizer.items()}

    def _specs(self) -> Specs:
        return localizer_specs(self.header.localizer)

    def run(self, feeds: Tensors) -> Tensors:
        """Return ``labels (h, w)`` int32, or the student's ``hand (h, w)`` float32."""
        image = torch.from_numpy(np.ascontiguousarray(feeds["image"]))
        settings = self.header.localizer
        if isinstance(settings, StudentSettings):
            with torch.inference_mode():
                return {"hand": draw_hand(image, self._weights, settings)[0, 0].numpy()}
        labels = localize_autograd(image[0, 0], self._weights, settings)
        return {"labels": labels.numpy()}


@lru_cache(maxsize=1)  # both roles live in one file
def _read(path: Path, digest: str) -> Checkpoint:
    """Read a checkpoint with this digest."""
    checkpoint = Checkpoint.read(path)
    if checkpoint.sha256 != digest:
        message = f"{path}: changed since it was exported (SHA-256 differs); export it again"
        raise BundleError(message)
    return checkpoint


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> _EagerSession:
    """Open one of the two models of a checkpoint file.

    Raises:
        BundleError: If the file was changed.
        CheckpointError: If it is not a checkpoint.
    """
    torch.set_num_threads(threads)  # torch has one setting for the process
    checkpoint = _read(files.path(artifact.path), artifact.sha256)
    if artifact.role == "regressor":
        return _RegressorSession(checkpoint)
    return _LocalizerSession(checkpoint)
