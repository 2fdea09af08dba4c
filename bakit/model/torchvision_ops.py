"""Make torchvision importable beside a CPU build of torch: import this module first.

PyPI's torchvision wheels register fake kernels for two operators of their compiled library when
they are imported. Beside a torch that the library was not built for, those operators are unknown
and the import fails; declaring their schemas is enough, since nothing here ever calls them.
"""

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::" not in str(error):
        raise
    # Kept in the module: the schemas vanish with the object.
    LIBRARY = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for _schema in _SCHEMAS:
        LIBRARY.define(_schema)  # type: ignore[no-untyped-call]
    import torchvision

__all__ = ["torchvision"]
