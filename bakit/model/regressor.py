"""The float model in torch: the paper's regressor.

Import this module before torchvision or lightning. PyPI's torchvision wheels register kernels for
two operators of their compiled library; beside a CPU build of torch these operators are unknown and
the import of torchvision fails. Declaring the operators first is enough: bakit never calls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from bakit.errors import CheckpointError
from bakit.settings import GREY_MEAN, GREY_SD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bakit.settings import Architecture

try:
    import torchvision as torchvision
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    # Kept in the module: the declarations vanish with the object.
    LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for _operator in ("nms", "qnms"):
        _schema = f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        LIBRARY.define(_schema)  # type: ignore[no-untyped-call]
    import torchvision as torchvision

FEATURES = 960
PROJECTED = 1280
SEX_FEATURES = 24


class Regressor(nn.Module):
    """Bone age from a hand crop and the child's sex (the paper's Table 1 and Fig. 12).

    MobileNetV3-Large up to its average pool, 960 -> 1280 with h-swish, the sex through
    Linear(1 -> 24) and ReLU beside it, then an MLP. ``head_layers=2`` has 7,606,825 parameters and
    ``head_layers=1`` 5,905,105.

    Args:
        architecture: Head layers and whether the sex is an input.
        mean_months: Mean age of the training set, eq. 7.
        sd_months: Standard deviation of the ages of the training set, eq. 7.
    """

    def __init__(
        self, architecture: Architecture, mean_months: float = 0.0, sd_months: float = 1.0
    ) -> None:
        super().__init__()
        backbone = torchvision.models.mobilenet_v3_large(weights=None)
        self.features: nn.Sequential = backbone.features
        self.project = nn.Linear(FEATURES, PROJECTED)
        self.sex = nn.Linear(1, SEX_FEATURES) if architecture.sex else None
        width = PROJECTED + (SEX_FEATURES if architecture.sex else 0)
        self.hidden = nn.ModuleList(
            nn.Linear(width, width) for _ in range(architecture.head_layers)
        )
        self.output = nn.Linear(width, 1)
        self.register_buffer("mean_months", torch.tensor(float(mean_months)))
        self.register_buffer("sd_months", torch.tensor(float(sd_months)))
        self.mean_months: Tensor
        self.sd_months: Tensor

    def standardized(self, image: Tensor, sex: Tensor) -> Tensor:
        """Return the standardized age of eq. 7, what the loss of eq. 6 is taken on.

        Args:
            image: ``(N, 1, H, W)`` float32 in 0..1.
            sex: ``(N, 1)`` float32, male 1, female 0.

        Returns:
            ``(N, 1)`` float32, without a unit.
        """
        grey = (image - GREY_MEAN) / GREY_SD
        # expand() would do, but its stride-0 channels send the convolution down a slow path.
        maps = self.features(grey.repeat(1, 3, 1, 1))
        hidden = functional.hardswish(self.project(maps.mean((2, 3))))
        if self.sex is not None:
            hidden = torch.cat([hidden, functional.relu(self.sex(sex))], 1)
        for layer in self.hidden:
            hidden = functional.relu(layer(hidden))
        output: Tensor = self.output(hidden)
        return output

    def forward(self, image: Tensor, sex: Tensor) -> Tensor:
        """Return the age in months, ``(N, 1)`` float32; arguments as in ``standardized``."""
        # In float32 also under mixed precision: bfloat16 has steps of a month above 128.
        return self.standardized(image, sex).float() * self.sd_months + self.mean_months


def regressor_from_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> Regressor:
    """Build the regressor of a checkpoint, in evaluation mode.

    Raises:
        CheckpointError: If a weight is missing, unknown or of another shape.
    """
    model = Regressor(architecture)
    counters = {k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        model.load_state_dict(counters | dict(weights))
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        message = f"the checkpoint's weights do not fit its architecture:{first[0]}"
        raise CheckpointError(message) from error
    return model.eval()
