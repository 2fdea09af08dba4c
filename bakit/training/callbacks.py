"""Lightning callbacks: training history, progress file, early stopping, state to resume from."""

from __future__ import annotations

import csv
import io
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from lightning.pytorch.plugins.io import TorchCheckpointIO

from bakit.files import write_file
from bakit.training.module import Training
from bakit.types import silent

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    import lightning
    import numpy.typing as npt
    from torch import nn

    from bakit.types import OnProgress, Weights


PROGRESS = "progress.json"

_EVERY_S = 30.0
"""Minimum seconds between two writes within an epoch."""


class Epoch(msgspec.Struct, frozen=True):
    """One row of ``metrics.csv``.

    Epochs count from 1. The training error is on augmented images; the learning rate is that of the
    last update.
    """

    epoch: int
    train_loss: float
    train_mae_months: float
    val_mae_months: float
    learning_rate: float
    seconds: float


class History(Callback):
    """Collects the metrics of each epoch and writes them to a table.

    ``on_epoch`` gets each epoch, its weights, and whether they are the best so far.
    """

    def __init__(self, table: Path, on_epoch: Callable[[Epoch, Weights, bool], object]) -> None:
        self.table = table
        self.on_epoch = on_epoch
        self.epochs: list[Epoch] = []
        self.best: Epoch | None = None
        self.diverged = False
        self.started = 0.0
        self.learning_rate = 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        """Start the timer."""
        self.started = time.perf_counter()

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Store the learning rate; the scheduler changes it before the epoch ends."""
        self.learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Add the epoch to the history; stop if the training diverged."""
        assert isinstance(pl_module, Training)
        metrics = trainer.callback_metrics
        epoch = Epoch(
            trainer.current_epoch + 1,
            float(metrics["train_loss"]),
            float(metrics["train_mae_months"]),
            float(metrics["val_mae_months"]),
            self.learning_rate,
            time.perf_counter() - self.started,
        )
        weights = module_weights(pl_module.best_guess)
        if not (math.isfinite(epoch.val_mae_months) and _fits_half(weights)):
            trainer.should_stop = True  # the epoch is discarded
            self.diverged = True
            return
        self.epochs.append(epoch)
        lowest = self.best.val_mae_months if self.best else math.inf
        is_best = epoch.val_mae_months < lowest
        if is_best:
            self.best = epoch
        if trainer.is_global_zero:
            self.on_epoch(epoch, weights, is_best)
            write_file(self.table, _table(self.epochs))

    def state_dict(self) -> dict[str, Any]:
        """Return the state for ``--resume``; lightning calls this."""
        return {"epochs": msgspec.to_builtins(self.epochs), "best": msgspec.to_builtins(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of ``state_dict``; lightning calls this."""
        self.epochs = msgspec.convert(state_dict["epochs"], list[Epoch])
        self.best = msgspec.convert(state_dict["best"], Epoch | None)


class RunProgress(msgspec.Struct, frozen=True):
    """The content of ``progress.json``.

    Attributes:
        epoch: Current or last epoch, from 1.
        epochs: Epochs of the whole run.
        update: Updates done, over all epochs.
        updates: Updates of the whole run.
        images_per_s: Training images per second since the last write.
        eta_s: Seconds until the last epoch ends, including validation; 0 at the end.
        learning_rate: Learning rate of the next update.
        best_epoch: Epoch with the lowest validation error so far; None before the first.
        best_val_mae_months: That error.
        time: Time of writing, in seconds since 1970.
    """

    epoch: int
    epochs: int
    update: int
    updates: int
    images_per_s: float
    eta_s: float
    learning_rate: float
    best_epoch: int | None
    best_val_mae_months: float | None
    time: float


class ProgressFile(Callback):
    """Writes ``progress.json`` atomically.

    The history's callback must run before this one.
    """

    def __init__(
        self, path: Path, history: History, batch_size: int, on_progress: OnProgress = silent
    ) -> None:
        self.on_progress = on_progress
        self.path = path
        self.history = history
        self.batch_size = batch_size
        self.marked = 0.0
        self.marked_update = 0
        self.update_s = 0.0
        self.validation_started = 0.0
        self.validation_s = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Start the timer."""
        self._mark(trainer.global_step)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Write the progress if the last write was long enough ago."""
        if trainer.is_global_zero:
            self.on_progress("training", trainer.global_step, trainer.estimated_stepping_batches)
        if time.perf_counter() - self.marked > _EVERY_S:
            self._measure(trainer.global_step)
            self._write(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Start the timer of the validation."""
        self._measure(trainer.global_step)
        self.validation_started = time.perf_counter()

    def on_validation_end(self, *_: object) -> None:
        """Store the duration of the validation."""
        self.validation_s = time.perf_counter() - self.validation_started

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Write the progress with the epoch's validation error."""
        self._write(trainer)

    def _mark(self, update: int) -> None:
        self.marked, self.marked_update = time.perf_counter(), update

    def _measure(self, update: int) -> None:
        """Measure the seconds per update since the last mark."""
        if update > self.marked_update:
            self.update_s = (time.perf_counter() - self.marked) / (update - self.marked_update)
        self._mark(update)

    def _write(self, trainer: lightning.Trainer) -> None:
        if not trainer.is_global_zero or not self.update_s:
            return
        epochs = trainer.max_epochs or 1
        updates = int(trainer.estimated_stepping_batches)
        validations = epochs - len(self.history.epochs)
        left = (updates - trainer.global_step) * self.update_s + validations * self.validation_s
        best = self.history.best
        progress = RunProgress(
            epoch=trainer.current_epoch + 1,
            epochs=epochs,
            update=trainer.global_step,
            updates=updates,
            images_per_s=round(self.batch_size / self.update_s, 2),
            eta_s=round(left),
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            best_epoch=best.epoch if best else None,
            best_val_mae_months=best.val_mae_months if best else None,
            time=round(time.time(), 1),
        )
        write_file(self.path, msgspec.json.format(msgspec.json.encode(progress), indent=1) + b"\n")


class StopEarly(EarlyStopping):
    """Early stopping that also holds for a resumed run, unlike lightning's own."""

    def on_train_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """End a resumed run that had already stopped early."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class KeepState(Checkpoint):
    """Writes the training state atomically after every epoch, unless the training diverged.

    A killed run resumes from its last complete epoch. The random numbers of an epoch do not depend
    on earlier epochs, so the result is the same.
    """

    def __init__(self, path: Path, history: History) -> None:
        self.path = path
        self.history = history

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Write the state; all processes must call this."""
        if not self.history.diverged:
            trainer.save_checkpoint(self.path)


class StateFile(TorchCheckpointIO):
    """Writes the training state as all files are written; lightning leaves a file if killed."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: object = None,
    ) -> None:
        """Write the state; lightning calls this in the main process."""
        del storage_options
        # To memory: a signal in a write to a file would end in an error of torch's own.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_file(Path(path), buffer.getvalue())


def module_weights(model: nn.Module) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights that a checkpoint stores."""
    return {
        name: value.detach().cpu().numpy().astype(np.float32)
        for name, value in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def _fits_half(weights: Weights) -> bool:
    """Return whether weights stay finite in float16, the format of a checkpoint."""
    largest = float(np.finfo(np.float16).max)
    return all(bool((np.abs(value) <= largest).all()) for value in weights.values())


def _table(epochs: list[Epoch]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Epoch.__struct_fields__)
    writer.writerows(msgspec.structs.astuple(epoch) for epoch in epochs)
    return text.getvalue().encode()
