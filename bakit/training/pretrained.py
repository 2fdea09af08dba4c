"""Pretrained weights: torchvision files, plain state dicts and bakit checkpoints."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bakit.errors import InputError
from bakit.model.regressor import torchvision

if TYPE_CHECKING:
    from bakit.model.regressor import Regressor


@dataclass(frozen=True)
class Pretrained:
    """Which layers a weights file filled.

    ``loaded`` are layers of the model filled from the file, ``initialized`` those that keep their
    random values; ``skipped`` are layers of the file that the model lacks or that have another
    shape.
    """

    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    initialized: tuple[str, ...]

    def __str__(self) -> str:
        """Return the three lists as one line."""
        parts = {"loaded": self.loaded, "skipped": self.skipped, "initialized": self.initialized}
        return "; ".join(f"{word} {', '.join(names)}" for word, names in parts.items() if names)


def load_backbone(model: Regressor, source: str) -> Pretrained:
    """Load pretrained weights into the backbone or the whole model.

    Args:
        model: Changed in place.
        source: ``"none"``; ``"imagenet"`` for torchvision's weights (downloaded by torchvision); or
            a file: a state dict of torchvision's ``mobilenet_v3_large`` (``.pth`` or
            ``.safetensors``), or a bakit checkpoint, whose head is loaded too if its shape fits.

    Raises:
        InputError: If the file is missing, holds another network or NaN, or the download failed.
    """
    own = {name: value for name, value in model.state_dict().items() if _is_weight(name)}
    if source == "none":
        return Pretrained((), (), _layers(own))
    weights = _imagenet() if source == "imagenet" else _read_weights(Path(source))
    # torchvision's name of a layer, and the regressor's.
    weights = {
        re.sub(r"^classifier\.0\.", "project.", name): value for name, value in weights.items()
    }
    _check_backbone(own, weights, source)
    fitting = {
        name: weights[name]
        for name, value in own.items()
        if name in weights and weights[name].shape == value.shape
    }
    for name, value in fitting.items():
        if not torch.isfinite(value).all():
            message = f"{source}: the weight {name!r} holds NaN or infinite values"
            raise InputError(message)
    model.load_state_dict({k: v.float() for k, v in fitting.items()}, strict=False)
    skipped = [name for name in weights if _is_weight(name) and name not in fitting]
    initialized = [name for name in own if name not in fitting]
    return Pretrained(_layers(fitting), _layers(skipped), _layers(initialized))


def _is_weight(name: str) -> bool:
    """Return whether this is a weight or running statistic, not a counter or age statistic."""
    return not name.endswith(("num_batches_tracked", "_months"))


def _layers(names: Mapping[str, Tensor] | list[str]) -> tuple[str, ...]:
    """Return the layers that weights belong to, in order; the backbone counts as one."""
    found = dict.fromkeys(
        "features" if name.startswith("features.") else name.rpartition(".")[0] or name
        for name in names
    )
    return tuple(found)


def _check_backbone(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], source: str) -> None:
    """Raise an error that names the first difference from a MobileNetV3-Large backbone."""
    expected = {name: value.shape for name, value in own.items() if name.startswith("features.")}
    found = {
        name: value.shape
        for name, value in weights.items()
        if name.startswith("features.") and _is_weight(name)
    }
    for name in [*expected, *found]:
        if name not in found:
            reason = f"{name!r} is missing"
        elif name not in expected:
            reason = f"{name!r} is unknown"
        elif found[name] != expected[name]:
            reason = f"{name!r} has shape {(*found[name],)}, not {(*expected[name],)}"
        else:
            continue
        message = f"{source}: not the weights of a MobileNetV3-Large backbone: {reason}"
        raise InputError(message)


def _imagenet() -> Mapping[str, Tensor]:
    weights = torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V1
    try:
        with redirect_stdout(sys.stderr):  # torch names the file on stdout, where results belong
            found: Mapping[str, Tensor] = weights.get_state_dict(progress=True)
    except OSError as error:
        message = (
            f"the ImageNet weights could not be downloaded ({error}); download {weights.url} on "
            "another machine and use --pretrained FILE, or train without them: --recipe scratch"
        )
        raise InputError(message) from error
    return found


def _read_weights(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        message = f"{path}: no such weights file; use 'imagenet', 'none' or an existing file"
        raise InputError(message)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch passes on any exception of the pickle reader
        message = f"{path}: not a torch state dict ({type(error).__name__})"
        raise InputError(message) from error
    if not isinstance(weights, Mapping):
        message = f"{path}: holds a {type(weights).__name__}, not a state dict"
        raise InputError(message)
    for name, value in weights.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            message = f"{path}: holds a {type(value).__name__} at {name!r}, not a tensor"
            raise InputError(message)
    return weights


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  # an extra

    from bakit.model.checkpoint import Checkpoint, is_checkpoint  # noqa: PLC0415  # only here

    try:
        with safe_open(path, "pt") as file:
            if not is_checkpoint(file.metadata()):
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        message = f"{path}: not a .safetensors file, or a damaged one"
        raise InputError(message) from error
    return {k: torch.from_numpy(v) for k, v in Checkpoint.read(path).regressor.items()}
