"""How long TensorRT-RTX, NVIDIA's compiler that builds without a GPU, takes for our graphs.

    pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs
    bakit export --target tensorrt --int8
    python tests/benchmarks/rtx_builds.py bakit-bundles/bakit-rsna100-tensorrt-int8

Each graph is built in a process of its own, so that one that does not end can be stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

BUILD = """
import sys, time
import tensorrt_rtx_bindings as rtx
logger = rtx.Logger(rtx.Logger.ERROR)
builder = rtx.Builder(logger)
network = builder.create_network(0)
parser = rtx.OnnxParser(network, logger)
data = open(sys.argv[1], "rb").read()
started = time.perf_counter()
if not parser.parse(data):
    sys.exit("; ".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
plan = builder.build_serialized_network(network, builder.create_builder_config())
if plan is None:
    sys.exit("no engine")
print(time.perf_counter() - started, len(bytes(plan)))
"""


def main() -> None:
    """Build and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundles", type=Path, nargs="+", help="folders of ONNX files")
    parser.add_argument("--limit-s", type=float, default=240)
    given = parser.parse_args()
    found = {}
    for path in sorted(path for bundle in given.bundles for path in bundle.rglob("*.onnx")):
        found[str(path)] = build(path, given.limit_s)
    print(json.dumps(found, indent=2))


def build(path: Path, limit_s: float) -> dict[str, float | str]:
    """Return seconds and size of an engine, or why there is none."""
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(path)],
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not finished after {time.perf_counter() - started:.0f} s"}
    if done.returncode:
        return {"error": done.stderr.strip()[-500:]}
    seconds, size = done.stdout.split()[-2:]
    return {"build_s": round(float(seconds), 2), "engine_mb": round(int(size) / 1e6, 1)}


if __name__ == "__main__":
    main()
