"""What TensorRT-RTX, NVIDIA's compiler that builds without a GPU, makes of our graphs.

    pip install tensorrt-rtx-cu13-bindings tensorrt-rtx-cu13-libs
    bakit export --target tensorrt --precision fp32,fp16,int8
    python tests/benchmarks/rtx_builds.py bakit-bundles/bakit-rsna299-tensorrt-*

Prints a line for each graph: nodes of the file and how many of them quantize or dequantize; layers
that TensorRT's parser makes of them, by the type of their output; blocks that are left of these
after fusion; seconds, and megabytes of the engine and of its weights. What a block computes is
known to the engine inspector only, which needs a GPU. Each graph is built in a process of its own,
so that one that does not end can be stopped.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import onnx

HEAD = (
    "| bundle | graph | nodes | Q and DQ | layers | float32 | float16 | int8 | other | blocks "
    "| build, s | engine, MB | weights, MB |"
)
TYPES = ("FLOAT", "HALF", "INT8")
"""TensorRT's names; layers of shapes and indices have others."""


def logger_of(rtx: Any) -> Any:
    """Return a logger that keeps ``texts`` and ``errors``."""

    class Log(rtx.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            rtx.ILogger.__init__(self)
            self.texts: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            self.texts.append(text)
            if int(severity) <= 1:
                self.errors.append(text)

    return Log()


class Compiled(NamedTuple):
    """An engine, the types of the parser's layers, and what the builder logged."""

    engine: bytes
    types: Counter[str]
    log: str


def compile_graph(data: bytes) -> Compiled:
    """Build the engine of an ONNX graph.

    Raises:
        ValueError: If TensorRT-RTX refuses it; with its reasons.
    """
    import tensorrt_rtx_bindings as rtx

    logger = logger_of(rtx)
    builder = rtx.Builder(logger)
    network = builder.create_network(0)
    parser = rtx.OnnxParser(network, logger)
    if not parser.parse(data):
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise ValueError("; ".join(errors))
    outputs = [network.get_layer(index).get_output(0) for index in range(network.num_layers)]
    made = [output for output in outputs if output is not None]  # an assertion makes none
    types = Counter(str(output.dtype).rpartition(".")[2] for output in made)
    engine = builder.build_serialized_network(network, builder.create_builder_config())
    if engine is None:
        raise ValueError("; ".join(logger.errors) or "no engine")
    return Compiled(bytes(engine), types, "\n".join(logger.texts))


def build(path: Path) -> list[str]:
    """Return the cells of a graph, from ``nodes`` on; errors are those of ``compile_graph``."""
    nodes = onnx.load(path).graph.node
    pairs = sum(node.op_type in {"QuantizeLinear", "DequantizeLinear"} for node in nodes)
    started = time.perf_counter()
    made = compile_graph(path.read_bytes())
    seconds = time.perf_counter() - started
    blocks = re.findall(r"After Myelin optimization: (\d+) layers", made.log)
    weights = re.findall(r"Total Weights Memory: (\d+) bytes", made.log)
    others = sum(count for name, count in made.types.items() if name not in TYPES)
    counts = [len(nodes), pairs, made.types.total(), *(made.types[name] for name in TYPES), others]
    sizes = [f"{seconds:.1f}", f"{len(made.engine) / 1e6:.1f}", f"{int(weights[-1]) / 1e6:.1f}"]
    return [*map(str, counts), *blocks[-1:], *sizes]


def main() -> None:
    """Build and print a line for each graph as it is done."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundles", type=Path, nargs="+", help="folders of ONNX files")
    parser.add_argument("--limit-s", type=float, default=240)
    given = parser.parse_args()
    print(HEAD, "| --- " * HEAD.count(" | ") + "| --- |", sep="\n")
    for path in (path for bundle in given.bundles for path in sorted(bundle.glob("*.onnx"))):
        with multiprocessing.get_context("spawn").Pool(1) as pool:  # leaving it ends the process
            try:
                cells = pool.apply_async(build, (path,)).get(given.limit_s)
            except multiprocessing.TimeoutError:
                cells = [f"not finished after {given.limit_s:g} s"]
            except ValueError as error:
                cells = [str(error)]
        print(f"| {path.parent.name.rpartition('-')[2]} | `{path.name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
