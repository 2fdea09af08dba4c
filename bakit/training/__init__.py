"""Training: labelled radiographs to a float checkpoint."""

# lightning imports torchvision, which this module makes importable beside a CPU build of torch.
from bakit.model import regressor as regressor
