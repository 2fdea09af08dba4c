"""Training: labelled radiographs to a float checkpoint."""

# lightning imports torchvision, which needs this first.
from bakit.model import torchvision_ops as torchvision_ops
