"""How long TensorRT-RTX, NVIDIA's compiler that builds without a GPU, takes for our graphs.

    pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs
    bakit export --target tensorrt --int8
    python tests/benchmarks/rtx_builds.py bakit-bundles/bakit-rsna299-tensorrt-int8

Each graph is built in a process of its own, so that one that does not end can be stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path


def compile_graph(data: bytes) -> bytes:
    """Return the engine of an ONNX graph.

    Raises:
        ValueError: If TensorRT-RTX refuses it; with its reasons.
    """
    import tensorrt_rtx_bindings as rtx

    logger = rtx.Logger(rtx.Logger.ERROR)
    builder = rtx.Builder(logger)
    network = builder.create_network(0)
    parser = rtx.OnnxParser(network, logger)
    if not parser.parse(data):
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise ValueError("; ".join(errors))
    engine = builder.build_serialized_network(network, builder.create_builder_config())
    if engine is None:
        message = "no engine"
        raise ValueError(message)
    return bytes(engine)


def timed(path: Path) -> dict[str, float]:
    """Return seconds and size of a file's engine."""
    data = path.read_bytes()
    started = time.perf_counter()
    engine = compile_graph(data)
    seconds = time.perf_counter() - started
    return {"build_s": round(seconds, 2), "engine_mb": round(len(engine) / 1e6, 1)}


def build(path: Path, limit_s: float) -> dict[str, float] | str:
    """Return ``timed`` of a file, or why there is none."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # leaving it ends the process
        try:
            return pool.apply_async(timed, (path,)).get(limit_s)
        except multiprocessing.TimeoutError:
            return f"not finished after {limit_s:g} s"
        except ValueError as error:
            return str(error)


def main() -> None:
    """Build and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundles", type=Path, nargs="+", help="folders of ONNX files")
    parser.add_argument("--limit-s", type=float, default=240)
    given = parser.parse_args()
    graphs = sorted(path for bundle in given.bundles for path in bundle.rglob("*.onnx"))
    print(json.dumps({str(path): build(path, given.limit_s) for path in graphs}, indent=2))


if __name__ == "__main__":
    main()
