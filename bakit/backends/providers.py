"""Names of ONNX Runtime's providers, without importing it."""

from __future__ import annotations

from bakit.agent import PROVIDERS
from bakit.errors import InputError, unknown

_REFUSED = {
    "nnapi": "NNAPI is deprecated since Android 15: use xnnpack, or qnn on a Snapdragon",
    "wasm": "provider wasm is a browser's: bakit bench --phone",
    "webnn": "provider webnn is a browser's: bakit bench --phone",
}


def find_provider(name: str) -> str:
    """Return ONNX Runtime's name of a provider, given by it or in short, such as ``cuda``.

    Raises:
        InputError: If it is unknown, or deprecated.
    """
    short = {full.removesuffix("ExecutionProvider").lower(): full for full in PROVIDERS}
    if name in PROVIDERS or name in short:
        return short.get(name, name)
    refused = _REFUSED.get(name.lower().removesuffix("executionprovider"))
    raise InputError(refused or unknown("provider", name, PROVIDERS if "Exec" in name else short))
