"""Training recipes: named sets of hyperparameters."""

from __future__ import annotations

from typing import Literal

import msgspec

from bakit.errors import InputError, unknown


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The hyperparameters of one training run.

    Attributes:
        epochs: Maximum number of epochs.
        batch_size: Images per batch, over all processes.
        loss: Loss on standardized ages: ``mse`` (the paper's eq. 6), ``l1`` or ``huber`` (like
            ``l1`` above a quarter of a standard deviation).
        learning_rate: Initial ("step") or highest ("one-cycle") learning rate of SGD.
        momentum: SGD momentum.
        nesterov: Nesterov momentum.
        weight_decay: L2 penalty.
        clip_norm: Maximum gradient norm; 0 switches clipping off.
        schedule: Learning rate: ``step`` divides it by 10 every ``step_epochs``; ``one-cycle``
            raises it, then lowers it to 0.
        step_epochs: Epochs between two steps of the ``step`` schedule.
        warm_up: Share of a one-cycle schedule with rising learning rate.
        average: Decay of the exponential moving average of the weights, which is validated and
            stored; 0 switches averaging off.
        patience: Stop after this many epochs without a lower validation error; 0: never.
        norm_momentum: Momentum of the running statistics of batch norm.
        crops: Crops per training image: the localizer's and additional ones near it.
        crop_jitter: Maximum random shift of each side of the additional crops, as a share of the
            box.
        degrade: Share of the additional crops that come from a degraded copy of the radiograph.
        phantoms: Phantoms added to the training images.
        rotation_degrees: Maximum random rotation to either side.
        zoom: Minimum and maximum random zoom.
        stretch: Maximum random change of the aspect ratio, as a share.
        shift: Maximum random shift, as a share of the side.
        flip: Mirror half of the images.
        contrast: Random contrast factor within 1 ± this.
        brightness: Random brightness offset within ± this (grey is 0..1).
        blur: Maximum sigma of a random Gaussian blur of half of the images, in pixels.
        background: Share of images whose darkest pixels are randomly blackened.
        pretrained: ``imagenet``, ``none`` or a weights file (``bakit.training.pretrained``).
        teacher: ``none``, or a bakit checkpoint for self-distillation: its mean prediction of a
            radiograph's crop and the mirror image is mixed into the label.
        teacher_weight: Weight of the teacher's prediction; the label's is 1 minus this.
    """

    epochs: int = 160
    batch_size: int = 10
    loss: Literal["mse", "l1", "huber"] = "mse"
    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    schedule: Literal["step", "one-cycle"] = "step"
    step_epochs: int = 30
    warm_up: float = 0.3
    average: float = 0.0
    patience: int = 0
    norm_momentum: float = 0.01
    crops: int = 1
    crop_jitter: float = 0.0
    degrade: float = 0.0
    phantoms: int = 0
    rotation_degrees: float = 10.0
    zoom: tuple[float, float] = (0.9, 1.1)
    stretch: float = 0.0
    shift: float = 0.05
    flip: bool = False
    contrast: float = 0.2
    brightness: float = 0.1
    blur: float = 0.0
    background: float = 0.0
    pretrained: str = "imagenet"
    teacher: str = "none"
    teacher_weight: float = 0.5

    def __post_init__(self) -> None:
        """Check that the numbers are within ``LIMITS``."""
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            option = f"--{name.replace('_', '-')}"
            for number in value if isinstance(value, tuple) else (value,):
                if not low <= number <= high:
                    message = f"{option} {number:g} is not possible; use {low:g} to {high:g}"
                    raise ValueError(message)
        if self.zoom[0] > self.zoom[1]:
            message = f"--zoom {self.zoom[0]:g} {self.zoom[1]:g}: put the lower number first"
            raise ValueError(message)


LIMITS: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch_size": (2, 65_536),
    "learning_rate": (1e-9, 100),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1),
    "clip_norm": (0, 1e6),
    "step_epochs": (1, 100_000),
    "warm_up": (0.001, 0.999),
    "average": (0, 0.999999),
    "patience": (0, 100_000),
    "norm_momentum": (1e-6, 1),
    "crops": (1, 100),
    "crop_jitter": (0, 0.4),
    "degrade": (0, 1),
    "phantoms": (0, 1_000_000),
    "rotation_degrees": (0, 180),
    "zoom": (0.2, 5),
    "stretch": (0, 2),
    "shift": (0, 0.5),
    "contrast": (0, 1),
    "brightness": (0, 1),
    "blur": (0, 1),
    "background": (0, 1),
    "teacher_weight": (0, 1),
}
"""Minimum and maximum of each number."""


# Without ImageNet weights AdamW hardly learns here; SGD with Nesterov momentum does. Gradients are
# large at first: clip and warm up.
_SCRATCH = Recipe(
    epochs=60,
    batch_size=32,
    loss="huber",
    learning_rate=0.04,
    nesterov=True,
    weight_decay=1e-4,
    clip_norm=5.0,
    schedule="one-cycle",
    average=0.999,
    norm_momentum=0.1,
    crops=4,
    crop_jitter=0.06,
    phantoms=1000,
    rotation_degrees=12.0,
    zoom=(0.9, 1.15),
    stretch=0.08,
    flip=True,
    blur=1.0,
    background=0.3,
    pretrained="none",
)

RECIPES = {
    # Batch, epochs, schedule, momentum and loss are the paper's ("Details of training"), which
    # does not give the initial learning rate nor the strength of the augmentation.
    "paper": Recipe(),
    "scratch": _SCRATCH,
    # Radiographs in use are fainter, smaller and more compressed than the public training set's:
    # degrade.
    "finetune": msgspec.structs.replace(
        _SCRATCH,
        epochs=30,
        learning_rate=0.01,
        warm_up=0.12,
        average=0.998,
        degrade=0.6,
        phantoms=500,
        zoom=(0.9, 1.12),
        contrast=0.25,
        brightness=0.12,
        blur=0.7,
        background=0.1,
        pretrained="imagenet",
    ),
}


def default_recipe(pretrained: str | None) -> str:
    """Return the default preset for ``--pretrained`` (None if the option is missing)."""
    return "paper" if pretrained in {None, "none"} else "finetune"


def get_recipe(name: str, **changes: object) -> Recipe:
    """Return a preset with changed fields; changes that are None are ignored.

    Raises:
        InputError: If there is no such preset, or a number is not possible.
    """
    if name not in RECIPES:
        raise InputError(unknown("recipe", name, RECIPES))
    given = {key: value for key, value in changes.items() if value is not None}
    try:
        return msgspec.convert(msgspec.to_builtins(RECIPES[name]) | given, Recipe, builtin_types=())
    except msgspec.ValidationError as error:
        raise InputError(str(error)) from error
