"""Whether a real TensorRT binding has every name that the agent uses. Needs no GPU.

    pip download --no-deps --only-binary=:all: --python-version 3.10 tensorrt==8.5.3.1
    unzip tensorrt-8.5.3.1-*.whl -d binding
    python3.10 tests/benchmarks/tensorrt_names.py binding/tensorrt

The names are read from the source of ``bakit/agent.py``: each attribute of TensorRT's module and
objects. Libraries that this machine lacks, such as cuDNN, are replaced by empty stand-ins with the
same symbols (``cc``, ``nm`` and ``ldd``): the binding is imported, and nothing is built. For a
package without libraries (``tensorrt_bindings``) libnvinfer is a stand-in, too. Run it with the
Python that the wheel is for. Exit status: 1 if a name is missing.
"""

from __future__ import annotations

import argparse
import ast
import ctypes
import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

AGENT = Path(__file__).parents[2] / "bakit" / "agent.py"
PLACES = ("TensorRtModel", "make_logger", "keep_last_float")
"""Definitions of the agent that call TensorRT."""
KINDS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "config.get_timing_cache()": "ITimingCache",
    "layer": "ILayer",
    "layer.get_output(index)": "ITensor",
    "layer.get_input(index)": "ITensor",
    "network.get_output(0)": "ITensor",
    "self._runtime": "Runtime",
    "self._engine": "ICudaEngine",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "self._context": "IExecutionContext",
}
"""Class of each of the agent's objects of TensorRT."""
FLAGS = {"BuilderFlag.FP16", "BuilderFlag.INT8"} | {
    f"NetworkDefinitionCreationFlag.{name}" for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED")
}
"""Asked for by a name in a variable."""
INSTEAD = {
    "IBuilderConfig.set_memory_pool_limit": ("IBuilderConfig.max_workspace_size",),
    "ICudaEngine.num_io_tensors": (
        "ICudaEngine.num_bindings",
        "ICudaEngine.get_binding_name",
        "ICudaEngine.binding_is_input",
        "ICudaEngine.get_binding_shape",
        "ICudaEngine.get_binding_dtype",
        "IExecutionContext.execute_async_v2",
    ),
}
"""Names that the agent uses only where a newer one is missing."""
ONLY_WITH = {
    "BuilderFlag.INT8": (
        "IBuilderConfig.int8_calibrator",
        "IInt8EntropyCalibrator2",
        "IInt8EntropyCalibrator2.__init__",
    ),
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS": ("ILayer.precision", "ILayer.set_output_type"),
}
"""Names that the agent uses only where another is there."""


def names() -> tuple[set[str], set[str]]:
    """Return the names that the agent uses, and those that it first asks for with hasattr."""
    used, asked = set(FLAGS), set(FLAGS)
    tree = ast.parse(AGENT.read_text(encoding="utf-8"))
    for part in (node for node in tree.body if getattr(node, "name", "") in PLACES):
        for node in ast.walk(part):
            if isinstance(node, ast.Attribute):
                used |= set(_name(node.value, node.attr))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr":
                owner, name = node.args
                if isinstance(name, ast.Constant):
                    asked |= set(_name(owner, name.value))
    return used | asked, asked


def _name(owner: ast.expr, attribute: str) -> Iterator[str]:
    """Yield ``Class.attribute`` if the owner is the module or an object of TensorRT."""
    text = ast.unparse(owner).replace("self._trt", "trt").replace("tensorrt", "trt")
    if text == "trt":
        yield attribute
    elif text in KINDS or text.startswith("trt."):
        yield f"{KINDS.get(text, text[4:])}.{attribute}"


def open_binding(folder: Path, scratch: Path) -> Any:
    """Import a binding's package, with stand-ins of the libraries that are missing."""
    for library in sorted(folder.glob("lib*.so*")) + sorted(folder.glob("*.so")):
        for missing in _missing(library, folder):
            ctypes.CDLL(str(_stand_in(missing, folder, scratch)), ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(folder.parent))
    return importlib.import_module(folder.name)


def _missing(library: Path, folder: Path) -> Iterator[str]:
    """Yield the names of the libraries that are neither here nor in the package."""
    lines = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
    for line in lines.splitlines():
        name = line.split()[0]
        if line.endswith("not found") and not (folder / name).exists():
            yield name


def _stand_in(name: str, folder: Path, scratch: Path) -> Path:
    """Return a library with every symbol that the package wants of this one."""
    made = scratch / name
    if made.exists():
        return made
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", *folder.glob("*.so*")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    words = {line.split()[-1].partition("@")[::2] for line in listed.splitlines() if " U " in line}
    own = {symbol for symbol, version in words if version == name}
    # What has no version may be any library's; the system's own come first.
    own |= {symbol for symbol, version in words if not version and "nvinfer" in name}
    source, version_map = scratch / "stand-in.c", scratch / "stand-in.map"
    source.write_text("".join(f"void {symbol}(void) {{}}\n" for symbol in sorted(own)))
    version_map.write_text(f"{name} {{ global: *; }};\n")
    command = [
        "cc",
        "-shared",
        "-fPIC",
        "-w",
        "-fno-builtin",
        f"-Wl,-soname,{name}",
        source,
        "-o",
        made,
    ]
    if "nvinfer" not in name:
        command.append(f"-Wl,--version-script={version_map}")
    subprocess.run(command, check=True)
    return made


def has(module: object, name: str) -> bool:
    """Return whether a dotted name exists in a module."""
    for part in name.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True


def main() -> int:
    """Print each name that is not there; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="package of the binding, with its __init__.py")
    folder = parser.parse_args().folder.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        binding = open_binding(folder, Path(scratch))
    used, asked = names()
    unused = dict.fromkeys(asked, "asked for with hasattr")
    for newer, older in INSTEAD.items():
        if has(binding, newer):
            unused |= dict.fromkeys(older, f"{newer} is used instead")
    for flag, names_with in ONLY_WITH.items():
        if not has(binding, flag):
            unused |= dict.fromkeys(names_with, f"used with {flag} only")
    gone = sorted(name for name in used if not has(binding, name))
    needed = [name for name in gone if name not in unused]
    print(f"TensorRT {binding.__version__}: {len(used) - len(gone)} of {len(used)} names")
    for name in gone:
        print(f"  {name}: {unused.get(name, 'MISSING')}")
    return 1 if needed else 0


if __name__ == "__main__":
    sys.exit(main())
