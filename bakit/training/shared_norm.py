"""Batch norm over all processes, so that the number of processes does not change the result."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm with statistics over all processes; ``torch.nn.SyncBatchNorm`` needs GPUs."""

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
