"""Benchmark binaries for Android: which one a file is, its command line, and what it prints.

LiteRT's ``benchmark_model`` summarizes its runs; its newer versions add the median, and can write
the outputs. ONNX Runtime's ``onnxruntime_perf_test`` writes the time of each run, and no outputs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bakit.bench.report.latency import StageTimes
from bakit.errors import InputError
from bakit.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    import numpy.typing as npt

    from bakit.bundle import Artifact
    from bakit.session import TensorSpec

    Feeds = Mapping[str, npt.NDArray[Any]]

Tool = Literal["benchmark_model", "onnxruntime_perf_test"]
TOOLS: dict[str, Tool] = {"litert": "benchmark_model", "onnx": "onnxruntime_perf_test"}
"""The program that runs a target's files."""

_MARKS = {b"Inference timings in us: ": "litert", b"Average inference time cost": "onnx"}
"""What only that program prints, by its target."""

_MAX_BYTES = 1 << 30
_MOST_MS = 1e9
_NUMBER = r"(\d{1,15}(?:\.\d{1,15})?(?:e[-+]?\d{1,2})?)"


class OutputError(ValueError):
    """A binary failed or printed something else; the message is the predicate of a sentence."""


class Timing(NamedTuple):
    """What a binary measured of one network; None is a figure that it does not print.

    Attributes:
        times: Statistics of the runs.
        runs_ns: Time of each run in order, in nanoseconds; empty if it prints only statistics.
        load_ms: Time to open the model.
        first_ms: Time of the first run.
        peak_mb: Peak resident memory of the process, in 10^6 bytes.
        unit: What ran the network, named as bakit's backend names it.
        note: What ran where, in words; empty if it is not printed.
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
        answers: Whether it can write the outputs of a model.
    """

    path: Path
    target: str
    answers: bool

    @property
    def tool(self) -> Tool:
        """Name of the program."""
        return TOOLS[self.target]

    def write_inputs(
        self, folder: Path, model: Artifact, feeds: Sequence[Feeds], goldens: int
    ) -> None:
        """Write inputs beside a model: all if it can answer, or else the golden ones."""
        for index, feed in enumerate(feeds if self.answers else feeds[:goldens]):
            for place, spec in enumerate(model.inputs):
                data = np.asarray(feed[spec.name], "<f4").tobytes()
                if self.target == "litert":
                    (folder / f"{spec.name}-{index}").write_bytes(data)
                    continue
                test = folder / f"test_data_set_{index}"
                test.mkdir(exist_ok=True)
                (test / f"input_{place}.pb").write_bytes(_tensor(spec, data))

    def command(self, model: Artifact, runs: int, warm_up: int, threads: int | None) -> str:
        """Return the shell command that times a model in its folder."""
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
        problem = "" if count == runs else f"ran {count} times instead of {runs}"
        mean, *others = timing.times.mean_ms, timing.times.p50_ms, timing.load_ms, timing.first_ms
        runs_ms = [mean, *(time / 1e6 for time in timing.runs_ns)]
        if min(runs_ms) <= 0 or max(*runs_ms, *filter(None, others)) > _MOST_MS:
            problem = "printed impossible times"
        if problem:
            raise OutputError(problem)
        return timing


def answer_command(model: Artifact, count: int, threads: int | None) -> str:
    """Return the command of ``benchmark_model`` that writes the outputs ``out/0`` and so on."""
    single = f"{_litert(model, '$i', 1, 1, threads)} --output_filepath=out/$i"
    failed = "{ tail -n 1 log; exit 1; }"
    loop = f"while [ $i -lt {count} ]; do {single} >log 2>&1 || {failed}; i=$((i+1)); done"
    return f"mkdir out; i=0; {loop}"


def _litert(model: Artifact, which: str, runs: int, warm_up: int, threads: int | None) -> str:
    """Return the command of ``benchmark_model``; its limits of time are out of the way."""
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


def read_binaries(paths: Sequence[Path]) -> dict[str, Binary]:
    """Return the binaries by the target that they run.

    Raises:
        InputError: If one cannot be read or is no benchmark binary, or two run the same target.
    """
    found: dict[str, Binary] = {}
    for binary in map(_read_binary, paths):
        if other := found.get(binary.target):
            both = f"{other.path} and {binary.path}"
            message = f"--benchmark-binary: {both} are both {binary.tool}; name one of them"
            raise InputError(message)
        found[binary.target] = binary
    return found


def _read_binary(path: Path) -> Binary:
    """Find out which benchmark binary a file is."""
    option = f"--benchmark-binary {path}"
    try:
        data = read_regular(path, _MAX_BYTES)
    except OSError as error:
        message = f"{option}: cannot be read ({error.strerror or error})"
        raise InputError(message) from error
    targets = [target for mark, target in _MARKS.items() if mark in data]
    if len(targets) != 1 or not data.startswith(b"\x7fELF"):
        known = "neither LiteRT's benchmark_model nor ONNX Runtime's onnxruntime_perf_test"
        message = f"{option}: {known}; name the program itself, not a script or a library"
        raise InputError(message)
    return Binary(path, targets[0], targets[0] == "litert" and b"output_filepath" in data)


def _parse_litert(text: str) -> tuple[Timing, int]:
    """Read the timings in microseconds; of two lines ``count=...``, the first is the warm-up's."""
    rows = [line for line in text.splitlines() if re.search(r"\bcount=\d", line)]
    average = rf"Warmup \(avg\): \S+, Inference \(avg\): {_NUMBER}"
    pattern = rf"timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, {average}"
    found = re.search(pattern, text)
    if found is None or len(rows) < 2:
        message = "printed no inference timings"
        raise OutputError(message)
    load, first, mean = (float(part) / 1e3 for part in found.groups())
    row = dict(re.findall(rf"\b(\w+)={_NUMBER}", rows[-1]))
    # Runs that all took the same time have no other figure than curr.
    middle = row.get("median") or (None if "min" in row else row.get("curr"))
    p50_ms = float(middle) / 1e3 if middle else None
    cv = float(row["std"]) / 1e3 / mean if "std" in row and mean else None
    unit, note = "litert-builtin", "by LiteRT's own kernels"
    if "will be completely executed by the delegate" in text:
        unit, note = "litert-xnnpack", "by XNNPACK"
    elif "will be partially executed by the delegate" in text:
        unit, note = "litert-xnnpack and litert-builtin", "in part by XNNPACK"
    timing = Timing(StageTimes(p50_ms, None, None, mean, cv=cv), [], load, first, None, unit, note)
    return timing, int(float(row.get("count", 0)))


def _parse_onnx(text: str) -> tuple[Timing, int]:
    """Read the rows ``name,seconds,peak bytes,CPU,run``, or else ``P50 Latency: ... s``."""

    def find(pattern: str, factor: float = 1.0) -> float | None:
        found = re.search(rf"^{pattern}", text, re.MULTILINE)
        return float(found[1]) * factor if found else None

    mean = find(rf"Average (?:inference )?time cost(?: total)?: ?{_NUMBER} ms")
    if mean is None:
        message = "printed no average inference time"
        raise OutputError(message)
    p50, p90, p99 = (find(rf"P{rank} Latency(?:: | is ){_NUMBER} ?s", 1e3) for rank in (50, 90, 99))
    rows = re.findall(rf"^[^,\n]*,{_NUMBER},\d+,-?\d+,\d+$", text, re.MULTILINE)
    timing = Timing(
        StageTimes(p50, p90, p99, mean),
        [round(float(row) * 1e9) for row in rows],
        load_ms=find(rf"Session creation time cost: ?{_NUMBER} s", 1e3),
        first_ms=find(rf"First inference time cost: ?{_NUMBER} ms"),
        peak_mb=find(rf"Peak working set size: ?{_NUMBER}", 1e-6),
        unit="CPUExecutionProvider",
    )
    count = find(rf"Total (?:inference requests|iterations): ?{_NUMBER}")
    return timing, len(rows) or int(count or 0)
