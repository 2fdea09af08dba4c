"""Prepare a model in another process: ONNX's code can crash or hang on a damaged one."""

from __future__ import annotations

import subprocess
import sys

import onnx

from bakit.export.check.judge import Prepared, prepare
from bakit.processes import python_command

TIMEOUT_S = 120
_VALID, _INVALID = b"v", b"i"


def prepare_apart(model: onnx.ModelProto) -> Prepared:
    """Return the result of ``prepare``, or that ONNX's code crashed or hung on the model.

    A model of 2 GB and more is checked without inferred shapes.
    """
    try:
        data = model.SerializeToString()
    except ValueError:
        return Prepared(model, "")
    try:
        done = subprocess.run(  # noqa: S603  # our own module
            python_command("bakit.export.check.isolated"),
            input=data,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Prepared(model, f"onnx.shape_inference did not end within {TIMEOUT_S} s")
    kind, result = done.stdout[:1], done.stdout[1:]
    if done.returncode or kind not in {_VALID, _INVALID}:
        return Prepared(model, f"onnx.shape_inference crashed on it (status {done.returncode})")
    if kind == _INVALID:
        return Prepared(model, result.decode())
    return Prepared(onnx.load_model_from_string(result), "")


def _main() -> None:
    prepared = prepare(onnx.load_model_from_string(sys.stdin.buffer.read()))
    answer = _INVALID + prepared.invalid.encode(errors="replace")
    if not prepared.invalid:
        answer = _VALID + prepared.model.SerializeToString()
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    _main()
