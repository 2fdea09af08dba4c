"""Training: labelled radiographs to a float checkpoint."""

# Must come before lightning: it makes torchvision importable with a CPU build of torch.
from bakit.model import regressor as regressor
