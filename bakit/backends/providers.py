"""Names of ONNX Runtime's providers, without importing it."""

from __future__ import annotations

from bakit.agent import PROVIDERS
from bakit.errors import InputError, unknown


def find_provider(name: str) -> str:
    """Return ONNX Runtime's name of a provider, given by it or in short, such as ``cuda``.

    Raises:
        InputError: If it is unknown, or deprecated.
    """
    short = {full.removesuffix("ExecutionProvider").lower(): full for full in PROVIDERS}
    if name in PROVIDERS or name in short:
        return short.get(name, name)
    if "nnapi" in name.lower():
        message = "NNAPI is deprecated since Android 15: use xnnpack, or qnn on a Snapdragon"
        raise InputError(message)
    raise InputError(unknown("provider", name, PROVIDERS if "Exec" in name else short))
