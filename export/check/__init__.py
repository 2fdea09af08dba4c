"""Static checks of ONNX graphs: find what TensorRT would reject, without installing it.

``check_model(model, PROFILES["jetson-nano"])`` returns the findings; nothing is run.
"""

from __future__ import annotations

from bakit.export.check.findings import RULES, Finding
from bakit.export.check.judge import check_model
from bakit.export.check.profiles import PROFILES, Profile, get_profile

__all__ = ["PROFILES", "RULES", "Finding", "Profile", "check_model", "get_profile"]
