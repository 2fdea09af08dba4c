"""The lightning module: batches, loss, schedule and weight averaging."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset, Sampler

from bakit.errors import InputError
from bakit.model.regressor import Regressor
from bakit.training.augment import DRAWS, augment, random_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bakit.model.recipes import Recipe
    from bakit.training.crops import Part

_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": functional.mse_loss,  # eq. 6
    "l1": functional.l1_loss,
    "huber": partial(functional.smooth_l1_loss, beta=0.25),  # quadratic below about 10 months
}


class EpochBatches(Sampler[tuple[int, list[int]]]):
    """Batches of an epoch as (epoch, indices); they depend only on seed and epoch.

    The last, smaller batch is dropped. Each process gets its share of every batch; ``batch_size``
    is a multiple of their number.
    """

    def __init__(
        self, count: int, batch_size: int, seed: int, rank: int = 0, processes: int = 1
    ) -> None:
        self.count = count
        self.batch_size = batch_size
        self.seed = seed
        share = batch_size // processes
        self.share = slice(rank * share, (rank + 1) * share)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.count // self.batch_size

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        """Yield the batches."""
        order = np.random.default_rng([self.seed, self.epoch, 0]).permutation(self.count)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = order[start : start + self.batch_size]
            yield self.epoch, batch[self.share].tolist()


class _TrainingImages(Dataset[tuple[Tensor, ...]]):
    """Training batches: one crop per image, labels, random numbers."""

    def __init__(self, part: Part, seed: int) -> None:
        self.part = part
        self.seed = seed
        self.epoch = -1
        self.rows = torch.empty(0)

    def __getitem__(self, batch: tuple[int, list[int]]) -> tuple[Tensor, ...]:
        epoch, indices = batch
        if epoch != self.epoch:
            self.rows = random_rows(len(self.part.ages_months), self.seed, epoch)
            self.epoch = epoch
        rows = self.rows[indices]
        crops = self.part.images.shape[1]
        which = (rows[:, DRAWS.index("crop")] * crops).long().clamp(max=crops - 1)
        images = self.part.images[torch.tensor(indices), which][:, None]
        return images, self.part.sexes[indices], self.part.ages_months[indices], rows


class _ValidationImages(Dataset[tuple[Tensor, ...]]):
    """Validation batches of the localizer's crops."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.windows = part.windows()

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        window, part = self.windows[index], self.part
        return part.images[window, :1], part.sexes[window], part.ages_months[window]


class Training(lightning.LightningModule):
    """The recipe's loss on standardized ages (eq. 7), SGD, and the recipe's schedule.

    The model is trained in place; its mean and SD are those of the training ages.
    """

    def __init__(
        self, model: Regressor, recipe: Recipe, train: Part, validation: Part, seed: int
    ) -> None:
        super().__init__()
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = recipe.norm_momentum
        # Channels last is about a third faster on a CPU.
        self.model: Regressor = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe = recipe
        self.parts = (train, validation)
        self.seed = seed
        self.kept: nn.Module = model
        if recipe.average:
            self.kept = AveragedModel(
                model, multi_avg_fn=self._average, use_buffers=True
            ).requires_grad_(requires_grad=False)
        self.absolute_errors: list[Tensor] = []

    def _average(
        self, kept: Sequence[Tensor], new: Sequence[Tensor], updates: Tensor | int
    ) -> None:
        """Update the average; faster at first, because it starts from untrained weights."""
        decay = min(self.recipe.average, (1 + int(updates)) / (10 + int(updates)))
        floats = [pair for pair in zip(kept, new, strict=True) if pair[0].is_floating_point()]
        if floats:  # batch norm's counters come in a separate call
            torch._foreach_lerp_([k for k, _ in floats], [n for _, n in floats], 1 - decay)

    @property
    def best_guess(self) -> Regressor:
        """The model that is validated and stored."""
        kept = self.kept.module if isinstance(self.kept, AveragedModel) else self.kept
        assert isinstance(kept, Regressor)
        return kept

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return this process's share of the training batches."""
        return self.train_loader(self.trainer.global_rank, self.trainer.world_size)

    def train_loader(self, rank: int, processes: int) -> DataLoader[tuple[Tensor, ...]]:
        """Return the training batches of one of several processes."""
        part = self.parts[0]
        count, size = len(part.ages_months), self.recipe.batch_size
        batches = EpochBatches(count, size, self.seed, rank, processes)
        return DataLoader(_TrainingImages(part, self.seed), sampler=batches, batch_size=None)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Return all validation images in every process, so that all choose the same epoch."""
        return DataLoader(_ValidationImages(self.parts[1]), batch_size=None)

    def training_step(self, batch: Sequence[Tensor], index: int) -> Tensor:
        """Return the loss of one batch."""
        del index
        images, sexes, ages, rows = batch
        with torch.autocast(self.device.type, enabled=False):  # positions need float32
            pixels = augment(images.float() / 255, rows, self.recipe)
        target = (ages - self.model.mean_months) / self.model.sd_months
        output = self.model.standardized(_channels_last(pixels), sexes)
        loss = _LOSSES[self.recipe.loss](output, target)
        if not torch.isfinite(loss):
            raise InputError(self._divergence(loss.item()))
        with torch.no_grad():
            mae = (output - target).abs().mean() * self.model.sd_months
        count = len(ages)
        shown: dict[str, Any] = {
            "on_step": False,
            "on_epoch": True,
            "sync_dist": True,
            "batch_size": count,
        }
        self.log("train_loss", loss, **shown)
        self.log("train_mae_months", mae, prog_bar=True, **shown)
        return loss

    def _divergence(self, loss: float) -> str:
        clip = self.recipe.clip_norm
        lower = f"or --clip-norm (now {clip:g})" if clip else "or clip gradients with --clip-norm 5"
        return (
            f"the training diverged: the loss of update {self.trainer.global_step + 1}, in epoch "
            f"{self.trainer.current_epoch + 1}, is {loss}; lower --learning-rate (now "
            f"{self.recipe.learning_rate:g}) {lower}, and choose another --out"
        )

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Update the weight average after every batch."""
        del outputs, batch, batch_idx
        if isinstance(self.kept, AveragedModel):
            self.kept.update_parameters(self.model)

    def validation_step(self, batch: Sequence[Tensor], index: int) -> None:
        """Collect the errors of one batch."""
        del index
        images, sexes, ages = batch
        predicted = self.best_guess(_channels_last(images.float() / 255), sexes)
        self.absolute_errors.append((predicted - ages).abs())

    def on_validation_epoch_end(self) -> None:
        """Log the MAE on the validation split."""
        mae = torch.cat(self.absolute_errors).mean()
        self.absolute_errors.clear()
        self.log("val_mae_months", mae, prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # lightning's own type
        """Return the optimizer and its schedule."""
        recipe = self.recipe
        optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
        if recipe.schedule == "step":
            return [optimizer], [
                torch.optim.lr_scheduler.StepLR(optimizer, recipe.step_epochs, gamma=0.1)
            ]
        one_cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            recipe.learning_rate,
            int(self.trainer.estimated_stepping_batches),
            pct_start=recipe.warm_up,
            cycle_momentum=False,
        )
        return [optimizer], [{"scheduler": one_cycle, "interval": "step"}]


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over all processes, so that their number does not change the result.

    ``torch.nn.SyncBatchNorm`` needs GPUs.
    """

    @staticmethod
    def convert(module: nn.Module) -> None:
        """Convert every ``BatchNorm2d`` in ``module``, in place."""
        for layer in module.modules():
            if type(layer) is nn.BatchNorm2d:
                layer.__class__ = SharedBatchNorm

    def forward(self, maps: Tensor) -> Tensor:
        """Normalize ``(N, C, H, W)``; N is the same in all processes."""
        if not (self.training and distributed.is_available() and distributed.is_initialized()):
            return super().forward(maps)
        dtype, maps = maps.dtype, maps.float()  # the variance below needs float32
        sums = torch.stack([maps.mean((0, 2, 3)), maps.square().mean((0, 2, 3))])
        mean, square = all_reduce(sums) / distributed.get_world_size()  # type: ignore[no-untyped-call]
        variance = square - mean.square()
        count = maps.numel() // maps.shape[1] * distributed.get_world_size()
        with torch.no_grad():
            momentum = self.momentum or 0.0
            assert self.running_mean is not None
            assert self.running_var is not None
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_(variance.detach() * (count / (count - 1)), momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        normalized: Tensor = maps * scale[:, None, None] + shift[:, None, None]
        return normalized.to(dtype)


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
