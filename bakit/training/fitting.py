"""Run the training with lightning: hardware, logging, resuming."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from bakit.errors import InputError
from bakit.training.callbacks import (
    PROGRESS,
    Epoch,
    History,
    KeepState,
    ProgressFile,
    StateFile,
    StopEarly,
)
from bakit.training.module import SharedBatchNorm, Training
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lightning.pytorch.callbacks import Callback

    from bakit.model.recipes import Recipe
    from bakit.model.regressor import Regressor
    from bakit.training.crops import Part
    from bakit.types import OnProgress, Weights

STATE = "state.ckpt"
"""Training state for ``--resume``."""

HISTORY = "metrics.csv"


@dataclass(frozen=True)
class Hardware:
    """Training hardware.

    Attributes:
        accelerator: ``auto``: a GPU if there is one.
        devices: Processes (CPU) or GPUs on each machine.
        nodes: Machines.
        precision: ``auto``: bfloat16 mixed precision on a GPU, float32 on a CPU.
        deterministic: Fail on nondeterministic operations.
        threads: Threads of each process on a CPU; torch's choice when None.
    """

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    deterministic: bool = False
    threads: int | None = None

    @property
    def processes(self) -> int:
        """Processes on all machines."""
        return self.devices * self.nodes

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is used."""
        return self.accelerator != "cpu" and torch.cuda.is_available()

    def check(self) -> None:
        """Raise ``InputError`` for missing GPUs, or missing environment variables of ``nodes``."""
        gpus = torch.cuda.device_count()
        if self.accelerator == "gpu" and not gpus:
            message = (
                "torch finds no GPU; use --accelerator cpu, or install a build of torch with CUDA"
            )
            raise InputError(message)
        if self.on_gpu and self.devices > gpus:
            message = f"--devices {self.devices}: this machine has {gpus} GPUs"
            raise InputError(message)
        if self.precision == "16" and not self.on_gpu:
            message = "--precision 16 needs a GPU; use 32 or bf16 on a CPU"
            raise InputError(message)
        if self.nodes > 1 and "MASTER_ADDR" not in os.environ:
            message = (
                f"--nodes {self.nodes}: start this command on every machine, with MASTER_ADDR and "
                "MASTER_PORT of the first one and NODE_RANK 0, 1, ... in the environment (torchrun "
                "and Slurm set them)"
            )
            raise InputError(message)


THIS_MACHINE = Hardware()
"""A GPU if there is one, else the CPU."""


def is_first_process() -> bool:
    """Return whether this is the first process of the run (rank 0)."""
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in names)


@dataclass(frozen=True)
class Fitted:
    """A finished run.

    ``best`` is the epoch with the lowest validation error; ``is_main``, whether this process writes
    the files.
    """

    best: Epoch
    history: tuple[Epoch, ...]
    is_main: bool


def fit(
    model: Regressor,
    train: Part,
    validation: Part,
    recipe: Recipe,
    folder: Path,
    *,
    seed: int = 0,
    hardware: Hardware = THIS_MACHINE,
    on_progress: OnProgress = silent,
    on_epoch: Callable[[Epoch, Weights, bool], object] = lambda *_: None,
) -> Fitted:
    """Train a regressor; resume from the state in ``folder`` if there is one.

    The model is trained in place; its mean and SD are those of the training ages. ``folder`` gets
    ``metrics.csv``, ``progress.json``, ``state.ckpt`` and TensorBoard's ``logs``; ``on_epoch`` each
    epoch, its weights, and whether they are the best so far.

    Raises:
        InputError: If the training diverged, or the state is damaged.
    """
    on_gpu = hardware.on_gpu
    if hardware.processes > 1 and not on_gpu:
        SharedBatchNorm.convert(model)
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
        # Without this variable, lightning sets its own number in runs of several processes.
        os.environ["OMP_NUM_THREADS"] = str(hardware.threads)
    folder.mkdir(parents=True, exist_ok=True)
    history = History(folder / HISTORY, on_epoch)
    written = ProgressFile(folder / PROGRESS, history, recipe.batch_size, on_progress)
    callbacks: list[Callback] = [history, written, KeepState(folder / STATE, history)]
    if recipe.patience:
        callbacks.append(StopEarly("val_mae_months", patience=recipe.patience))
    # lightning logs advertisements at level INFO.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    mixed = {"bf16": "bf16-mixed", "16": "16-mixed", "32": "32-true"}
    wanted = ("bf16" if on_gpu else "32") if hardware.precision == "auto" else hardware.precision
    with _quiet():
        trainer = lightning.Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            devices=hardware.devices,
            num_nodes=hardware.nodes,
            strategy="ddp" if hardware.processes > 1 else "auto",
            sync_batchnorm=on_gpu and hardware.processes > 1,
            precision=mixed[wanted],  # type: ignore[arg-type]  # one of lightning's words
            deterministic=hardware.deterministic,
            max_epochs=recipe.epochs,
            logger=TensorBoardLogger(folder, name="", version="logs"),
            callbacks=callbacks,
            plugins=[StateFile()],
            enable_progress_bar=False,
            enable_checkpointing=True,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            log_every_n_steps=1,
            gradient_clip_val=recipe.clip_norm or None,
        )
        state = folder / STATE
        _fit(trainer, Training(model, recipe, train, validation, seed), state)
    if history.diverged or history.best is None:
        message = (
            f"the training diverged in epoch {len(history.epochs) + 1}: lower --learning-rate and "
            "choose another --out"
        )
        raise InputError(message)
    return Fitted(history.best, tuple(history.epochs), trainer.is_global_zero)


def _fit(trainer: lightning.Trainer, module: Training, state: Path) -> None:
    resumed = state.is_file()
    try:
        if resumed:
            torch.load(state, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        message = f"{state}: damaged ({error}); train again with a new --out"
        raise InputError(message) from error
    try:
        trainer.fit(module, ckpt_path=state if resumed else None, weights_only=True)
    except SystemExit as end:  # lightning's answer to Ctrl-C, with exit status 1
        raise KeyboardInterrupt from end


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of lightning that do not apply here."""
    with warnings.catch_warnings():
        # The images are in memory: worker processes would be slower.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*LeafSpec.*")
        warnings.filterwarnings("ignore", ".*exists and is not empty.*")  # a run has one folder
        warnings.filterwarnings("ignore", ".*GPU available but not used.*")
        yield
