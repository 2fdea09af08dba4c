"""Benchmark binaries for Android: which one a file is, its command line, and what it prints.

LiteRT's ``benchmark_model`` summarizes its runs; its newer versions add the median, and can write
the outputs. ONNX Runtime's ``onnxruntime_perf_test`` writes the time of each run, and no outputs.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.bench.report.latency import StageTimes
from bakit.errors import InputError
from bakit.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any, Literal

    import numpy.typing as npt

    from bakit.bundle import Artifact
    from bakit.session import TensorSpec

    Feeds = Mapping[str, npt.NDArray[Any]]
    Tool = Literal["benchmark_model", "onnxruntime_perf_test"]

TOOLS: dict[str, Tool] = {"litert": "benchmark_model", "onnx": "onnxruntime_perf_test"}
"""The program that runs a target's files."""

_MARKS = {b"Inference timings in us: ": "litert", b"Average inference time cost": "onnx"}
"""What only that program prints, by its target."""

_ABIS = {
    (2, 183): "arm64-v8a",
    (1, 40): "armeabi-v7a",
    (2, 62): "x86_64",
    (1, 3): "x86",
    (2, 243): "riscv64",
}
"""Android's names, by class and machine of the ELF header."""

_MAX_BYTES = 1 << 30
_NUMBER = r"([\d.]+(?:e[-+]?\d+)?)"
_MOST = 1e12


class OutputError(ValueError):
    """A binary failed or printed something else; the message is the predicate of a sentence."""


class Timing(NamedTuple):
    """What a binary measured of one graph.

    Attributes:
        times: Statistics of the runs, as far as the binary prints them.
        runs_ns: Time of each run in order, in nanoseconds; empty if it prints only statistics.
        load_ms: Time to open the model; None if it is not printed.
        first_ms: Time of the first run; None if it is not printed.
        peak_mb: Peak resident memory of the process, in 10^6 bytes; None if it is not printed.
        unit: What ran the graph, named as bakit's backend names it.
        note: The unit's share in words; empty if it is not printed.
    """

    times: StageTimes
    runs_ns: list[int]
    load_ms: float | None
    first_ms: float | None
    peak_mb: float | None
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Binary:
    """A benchmark binary.

    Attributes:
        path: The file.
        target: The target whose files it runs.
        abi: Android's name of the instruction set.
        answers: Whether it can write the outputs of a model.
    """

    path: Path
    target: str
    abi: str
    answers: bool

    @property
    def tool(self) -> Tool:
        """Name of the program."""
        return TOOLS[self.target]

    def write_inputs(
        self, folder: Path, model: Artifact, feeds: Sequence[Feeds], goldens: int
    ) -> None:
        """Write inputs beside a model: all that it can answer, or else the golden ones."""
        for index, feed in enumerate(feeds if self.answers else feeds[:goldens]):
            for place, spec in enumerate(model.inputs):
                data = np.asarray(feed[spec.name], "<f4").tobytes()
                if self.target == "litert":
                    (folder / f"{spec.name}-{index}").write_bytes(data)
                    continue
                test = folder / f"test_data_set_{index}"
                test.mkdir(exist_ok=True)
                (test / f"input_{place}.pb").write_bytes(_tensor(spec, data))

    def command(self, model: Artifact, runs: int, warm_up: int, threads: int) -> str:
        """Return the shell command that times a model in the folder with its inputs.

        ``benchmark_model`` reads the inputs ``NAME-0``, ``onnxruntime_perf_test`` those of the
        folders ``test_data_set_*``.
        """
        if self.target == "litert":
            return _litert(model, "0", runs, warm_up, threads)
        options = f"-m times -r {runs} -x {threads} -y 1 -e cpu"
        return f'run ../benchmark {options} "$PWD/model.onnx" times.csv && cat times.csv'

    def parse(self, text: str, runs: int) -> Timing:
        """Read what a run of so many queries printed.

        Raises:
            OutputError: If a figure is missing or impossible, or it ran another number of times.
        """
        timing, count = (_parse_litert if self.target == "litert" else _parse_onnx)(text)
        if count != runs:
            message = f"ran {count} times instead of {runs}"
            raise OutputError(message)
        return timing


def answer_command(model: Artifact, images: range, threads: int) -> str:
    """Return the command of ``benchmark_model`` for the inputs ``NAME-0`` and so on.

    It writes the outputs ``out/0`` and so on.
    """
    single = f"{_litert(model, '$i', 1, 1, threads)} --output_filepath=out/$i"
    failed = "{ tail -n 1 log; exit 1; }"
    loop = f"while [ $i -lt {images.stop} ]; do {single} >log 2>&1 || {failed}; i=$((i+1)); done"
    return f"mkdir -p out; i={images.start}; {loop}"


def _litert(model: Artifact, which: str, runs: int, warm_up: int, threads: int) -> str:
    names = [spec.name for spec in model.inputs]
    shapes = ":".join(",".join(map(str, spec.shape)) for spec in model.inputs)
    files = ",".join(f"{name}:{name}-{which}" for name in names)
    return (
        f"run ../benchmark --graph=model.tflite --num_threads={threads} --use_xnnpack=true "
        f"--num_runs={runs} --min_secs=0 --max_secs=100000 "
        f"--warmup_runs={warm_up} --warmup_min_secs=0 --input_layer={','.join(names)} "
        f"--input_layer_shape={shapes} --input_layer_value_files={files}"
    )


def _tensor(spec: TensorSpec, data: bytes) -> bytes:
    """Return a float32 tensor as ONNX's ``TensorProto``: dims, type, name and raw data."""

    def varint(number: int) -> bytes:
        low, rest = number & 0x7F, number >> 7
        return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])

    dims = b"".join(b"\x08" + varint(dim) for dim in spec.shape)
    name = spec.name.encode()
    return b"".join(
        (dims, b"\x10\x01", b"\x42", varint(len(name)), name, b"\x4a", varint(len(data)), data)
    )


def read_binary(path: Path) -> Binary:
    """Find out which benchmark binary a file is.

    Raises:
        InputError: If it cannot be read, or is none.
    """
    option = f"--benchmark-binary {path}"
    try:
        data = read_regular(path, _MAX_BYTES)
    except OSError as error:
        message = f"{option}: cannot be read ({error.strerror or error})"
        raise InputError(message) from error
    abi = _ABIS.get((data[4], int.from_bytes(data[18:20], "little"))) if len(data) > 52 else None
    if not data.startswith(b"\x7fELF") or abi is None:
        message = f"{option}: not a program for Android (no ELF file of a known CPU)"
        raise InputError(message)
    found = [target for mark, target in _MARKS.items() if mark in data]
    if len(found) != 1:
        known = "neither LiteRT's benchmark_model nor ONNX Runtime's onnxruntime_perf_test"
        message = f"{option}: {known}; name the program itself, not a script or a library"
        raise InputError(message)
    return Binary(path, found[0], abi, found[0] == "litert" and b"output_filepath" in data)


def _parse_litert(text: str) -> tuple[Timing, int]:
    """Read ``count=50 first=... avg=... median=...`` in microseconds, first of the warm-up."""
    rows = [line for line in text.splitlines() if re.search(r"\bcount=\d", line)]
    average = rf"Warmup \(avg\): \S+, Inference \(avg\): {_NUMBER}"
    pattern = rf"Init: {_NUMBER}, First inference: {_NUMBER}, {average}"
    found = re.search(rf"Inference timings in us: {pattern}", text)
    if found is None or len(rows) < 2:
        message = "printed no inference timings"
        raise OutputError(message)
    load, first, mean = (_milliseconds(part, 1e-3) for part in found.groups())
    row = dict(re.findall(rf"\b(\w+)={_NUMBER}", rows[-1]))
    # Runs that all took the same time have no other figure than curr.
    same = row["curr"] if "min" not in row and "curr" in row else None
    middle, spread = row.get("median", same), row.get("std")
    p50_ms = None if middle is None else _milliseconds(middle, 1e-3)
    cv = None if spread is None else _milliseconds(spread, 1e-3) / mean
    times = StageTimes(p50_ms, None, None, mean, cv=cv)
    unit, note = "litert-builtin", "not by XNNPACK"
    if delegated := re.search(r"executed by the delegate(?: w/ (\d{1,6}) delegate kernels)?", text):
        whole = "will be completely" in text
        if whole or delegated[1]:
            unit = "litert-xnnpack" if whole else "litert-xnnpack and litert-builtin"
            note = "all by XNNPACK" if whole else f"in part by XNNPACK, {delegated[1]} kernels"
    return Timing(times, [], load, first, None, unit, note), _count(row.get("count"))


def _parse_onnx(text: str) -> tuple[Timing, int]:
    """Read the rows ``name,seconds,peak bytes,CPU,run``, or else ``P50 Latency: ... s``."""

    def find(pattern: str, factor: float) -> float | None:
        found = re.search(rf"^{pattern}", text, re.MULTILINE)
        return _milliseconds(found[1], factor) if found else None

    mean = find(rf"Average (?:inference )?time cost(?: total)?: ?{_NUMBER} ms", 1)
    if mean is None:
        message = "printed no average inference time"
        raise OutputError(message)
    p50, p90, p99 = (find(rf"P{rank} Latency(?:: | is ){_NUMBER} ?s", 1e3) for rank in (50, 90, 99))
    rows = re.findall(rf"^[^,\n]*,{_NUMBER},\d+,-?\d+,\d+$", text, re.MULTILINE)
    count = re.search(r"Total (?:inference requests|iterations): ?(\d{1,9})", text)
    timing = Timing(
        StageTimes(p50, p90, p99, mean),
        [round(_milliseconds(row, 1e3) * 1e6) for row in rows],
        load_ms=find(rf"Session creation time cost: ?{_NUMBER} s", 1e3),
        first_ms=find(r"First inference time cost: ?([1-9]\d*) ms", 1),  # 0: below 1 ms
        peak_mb=find(rf"Peak working set size: ?{_NUMBER}", 1e-6),
        unit="CPUExecutionProvider",
    )
    return timing, len(rows) or _count(count and count[1])


def _milliseconds(number: str, factor: float) -> float:
    """Return a printed time, multiplied to milliseconds.

    Raises:
        OutputError: If it is no time that a run can take.
    """
    try:
        value = float(number) * factor
    except ValueError:  # such as 1.2.3
        value = math.nan
    if not 0 < value < _MOST:
        message = f"printed the time {number}"
        raise OutputError(message)
    return value


def _count(number: str | None) -> int:
    return int(number) if number and number.isdecimal() else 0
