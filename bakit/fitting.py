"""The learning itself: augmentation, loss, optimiser, schedule, and keeping the best epoch."""

from __future__ import annotations

import logging
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

# lightning imports torchvision, which needs this first.
# isort: off
from bakit import torchvision_ops  # noqa: F401
# isort: on

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from bakit.checkpoint import Weights
    from bakit.models import Regressor
    from bakit.recipes import Recipe


@dataclass(frozen=True)
class Part:
    """Preprocessed images of one part of the data.

    Attributes:
        images: ``(N, 1, S, S)`` uint8, 255 times the regressor's input.
        sexes: ``(N, 1)`` float32, male 1.
        ages_months: ``(N, 1)`` float32.
    """

    images: Tensor
    sexes: Tensor
    ages_months: Tensor


@dataclass(frozen=True)
class Fitted:
    """The best epoch of a run.

    Attributes:
        weights: float32 weights of the regressor by name.
        epoch: Its number, from 1.
        mae_months: Its validation MAE.
    """

    weights: dict[str, npt.NDArray[np.float32]]
    epoch: int
    mae_months: float


def fit(
    model: Regressor,
    train: Part,
    validation: Part,
    recipe: Recipe,
    logs: Path,
    *,
    seed: int = 0,
    progress: bool = True,
    on_best: Callable[[Weights], object] = lambda _: None,
) -> Fitted:
    """Train a regressor and return the weights of the epoch with the lowest validation MAE.

    Args:
        model: Trained in place; its mean and SD are those of the training ages.
        train: The training part.
        validation: The validation part.
        recipe: Numbers of the training.
        logs: Folder for ``metrics.csv``.
        seed: Seed of the order and the augmentation.
        progress: Whether to show a progress bar.
        on_best: Given the weights whenever an epoch is the best so far.

    Raises:
        InputError: If the training diverged.
    """
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = recipe.norm_momentum
    # lightning advertises at level INFO.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    keep = _KeepBest(on_best)
    trainer = lightning.Trainer(
        max_epochs=recipe.epochs,
        logger=CSVLogger(logs.parent, name="", version=logs.name),
        callbacks=[keep, *([TQDMProgressBar()] if progress else [])],
        enable_progress_bar=progress,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    with warnings.catch_warnings():
        # The images are in memory: worker processes would only cost.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        warnings.filterwarnings("ignore", ".*Previous log files.*")  # a run's folder is its own
        trainer.fit(
            _Training(model, recipe, torch.Generator().manual_seed(seed)),
            DataLoader(
                TensorDataset(train.images, train.sexes, train.ages_months),
                batch_size=recipe.batch_size,
                shuffle=True,
                drop_last=len(train.images) > recipe.batch_size,  # batch norm wants company
                generator=torch.Generator().manual_seed(seed),
            ),
            DataLoader(
                TensorDataset(validation.images, validation.sexes, validation.ages_months),
                batch_size=256,
            ),
        )
    if not keep.weights:
        message = "the training diverged: no epoch has a finite error; lower --learning-rate"
        raise InputError(message)
    return Fitted(keep.weights, keep.epoch, keep.mae_months)


class _Training(lightning.LightningModule):
    """The paper's loss (eq. 6) on standardized ages (eq. 7), SGD, and the recipe's schedule."""

    def __init__(self, model: Regressor, recipe: Recipe, generator: torch.Generator) -> None:
        super().__init__()
        # Channels last is about a third faster on a CPU.
        self.model: Regressor = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe = recipe
        self.generator = generator
        self.absolute_errors: list[Tensor] = []

    def training_step(self, batch: Sequence[Tensor], index: int) -> Tensor:
        del index
        images, sexes, ages = batch
        pixels = augment(images.float() / 255, self.recipe, self.generator)
        target = (ages - self.model.mean_months) / self.model.sd_months
        output = self.model.standardized(_channels_last(pixels), sexes)
        loss = functional.mse_loss(output, target)
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], index: int) -> None:
        del index
        images, sexes, ages = batch
        predicted = self.model(_channels_last(images.float() / 255), sexes)
        self.absolute_errors.append((predicted - ages).abs())

    def on_validation_epoch_end(self) -> None:
        mae = torch.cat(self.absolute_errors).mean()
        self.absolute_errors.clear()
        self.log("val_mae_months", mae, prog_bar=True)

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # lightning's own type
        recipe = self.recipe
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
        if recipe.schedule == "step":
            return [optimizer], [
                torch.optim.lr_scheduler.StepLR(optimizer, recipe.step_epochs, gamma=0.1)
            ]
        updates = int(self.trainer.estimated_stepping_batches)
        one_cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, updates, cycle_momentum=False
        )
        return [optimizer], [{"scheduler": one_cycle, "interval": "step"}]


class _KeepBest(Callback):
    """Remembers the weights whenever the validation MAE falls."""

    def __init__(self, on_best: Callable[[Weights], object]) -> None:
        self.on_best = on_best
        self.mae_months = math.inf
        self.epoch = 0
        self.weights: dict[str, npt.NDArray[np.float32]] = {}

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        mae = float(trainer.callback_metrics["val_mae_months"])
        if mae < self.mae_months:
            self.mae_months = mae
            self.epoch = trainer.current_epoch + 1
            assert isinstance(pl_module, _Training)
            self.weights = module_weights(pl_module.model)
            self.on_best(self.weights)


def module_weights(model: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights that a checkpoint stores."""
    return {
        name: value.detach().cpu().numpy().astype(np.float32)
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Rotate, zoom, shift, mirror, and change contrast and brightness at random.

    Args:
        images: ``(N, 1, S, S)`` float32 in 0..1.
        recipe: Strengths.
        generator: Source of the randomness, on the CPU.

    Returns:
        The same shape and dtype; what comes from outside an image is black.
    """
    count = len(images)

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(count, generator=generator) * (high - low) + low

    angle = uniform(-1, 1) * math.radians(recipe.rotation_degrees)
    zoom = torch.exp(uniform(math.log(recipe.zoom[0]), math.log(recipe.zoom[1])))
    side = torch.ones(count)
    if recipe.flip:
        side = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # affine_grid maps output to input, in units of half a side.
    shift = [uniform(-2, 2) * recipe.shift for _ in range(2)]
    rows = [torch.stack([cosine * side, -sine, shift[0]], 1)]
    rows.append(torch.stack([sine * side, cosine, shift[1]], 1))
    theta = torch.stack(rows, 1).to(images.device)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, align_corners=False)
    contrast = uniform(1 - recipe.contrast, 1 + recipe.contrast).to(images.device)
    brightness = uniform(-recipe.brightness, recipe.brightness).to(images.device)
    half = 0.5
    changed = (moved - half) * contrast[:, None, None, None] + half
    return (changed + brightness[:, None, None, None]).clamp(0, 1)


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
