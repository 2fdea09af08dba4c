"""Training recipes: every number of the training, by name."""

from __future__ import annotations

from typing import Literal

import msgspec

from bakit.errors import InputError


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of one training run.

    Attributes:
        epochs: Passes over the training part.
        batch_size: Images an update.
        learning_rate: Initial ("step") or highest ("one-cycle") learning rate of SGD.
        momentum: SGD momentum.
        nesterov: Nesterov's form of it.
        weight_decay: L2 penalty.
        schedule: ``step``: divided by 10 every ``step_epochs``; ``one-cycle``: up, then down to 0.
        step_epochs: Epochs between divisions.
        norm_momentum: Momentum of the running statistics of batch norm.
        rotation_degrees: Random rotation, at most this much either way.
        zoom: Lowest and highest random magnification.
        shift: Random shift, at most this share of the side.
        flip: Whether half of the images are mirrored: left and right hands read alike.
        contrast: Random contrast, within 1 ± this.
        brightness: Random brightness, within ± this (grey is 0..1).
        pretrained: ``imagenet``, ``none`` or a weights file (``bakit.models.load_backbone``).
    """

    epochs: int = 160
    batch_size: int = 10
    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Literal["step", "one-cycle"] = "step"
    step_epochs: int = 30
    norm_momentum: float = 0.01
    rotation_degrees: float = 10.0
    zoom: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.05
    flip: bool = False
    contrast: float = 0.2
    brightness: float = 0.1
    pretrained: str = "imagenet"


RECIPES = {
    # Batch, epochs, schedule, momentum and loss are the paper's ("Details of training"), which
    # does not give the initial learning rate nor the strength of the augmentation.
    "paper": Recipe(),
    # Without ImageNet weights AdamW hardly learns here; SGD with Nesterov momentum does.
    "scratch": Recipe(
        epochs=30,
        batch_size=32,
        learning_rate=0.04,
        nesterov=True,
        weight_decay=1e-4,
        schedule="one-cycle",
        norm_momentum=0.1,
        rotation_degrees=10.0,
        zoom=(0.9, 1.15),
        shift=0.05,
        flip=True,
        contrast=0.2,
        brightness=0.1,
        pretrained="none",
    ),
}


def get_recipe(name: str, **changes: object) -> Recipe:
    """Return a preset with some numbers changed; changes that are None are ignored.

    Raises:
        InputError: If there is no such preset.
    """
    if name not in RECIPES:
        message = f"no recipe {name!r}; use one of {', '.join(RECIPES)}"
        raise InputError(message)
    given = {key: value for key, value in changes.items() if value is not None}
    return msgspec.structs.replace(RECIPES[name], **given)
