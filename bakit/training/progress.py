"""``progress.json``: the progress of a running training."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from lightning.pytorch.callbacks import Callback

from bakit.files import write_file
from bakit.types import silent

if TYPE_CHECKING:
    from pathlib import Path

    import lightning

    from bakit.training.callbacks import History
    from bakit.types import OnProgress

PROGRESS = "progress.json"

_EVERY_S = 30.0
"""Minimum seconds between two writes within an epoch."""


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

    Args:
        path: The file.
        history: History of the same run; it must run before this callback.
        batch_size: Images per update, over all processes.
        on_progress: Called after each update.
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

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the timer."""
        del pl_module
        self._mark(trainer.global_step)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Write the progress if the last write was long enough ago."""
        del pl_module, outputs, batch, batch_idx
        if trainer.is_global_zero:
            self.on_progress("training", trainer.global_step, trainer.estimated_stepping_batches)
        if time.perf_counter() - self.marked > _EVERY_S:
            self._measure(trainer.global_step)
            self._write(trainer)

    def on_validation_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Start the timer of the validation."""
        del pl_module
        self._measure(trainer.global_step)
        self.validation_started = time.perf_counter()

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Store the duration of the validation."""
        del trainer, pl_module
        self.validation_s = time.perf_counter() - self.validation_started

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Write the progress with the epoch's validation error."""
        del pl_module
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
