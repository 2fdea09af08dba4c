"""The agent's answers as bounded values. An answer that does not fit is refused as a whole.

The agent of this very version was copied to the device, so an unknown field, a number out of range
or another count is a damaged or dishonest answer. Nothing in an answer identifies a bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from bakit.bench.bounds import (
    PRINTABLE,
    Amount,
    Count,
    Few,
    Months,
    Nanoseconds,
    Stage,
    Text,
)
from bakit.bench.device.frames import AnswerError
from bakit.bench.host import HostInfo
from bakit.bench.raw import Power, Raw, RawBundle, Reading
from bakit.bench.report.device import BoardState
from bakit.bench.report.latency import Footprint
from bakit.session import executed_shares

if TYPE_CHECKING:
    from bakit.bench.task import Task
    from bakit.bundle import Bundle

Answer = TypeVar("Answer")

Step = Literal["open", "build localizer", "build regressor", "latency", "energy", "drift"]


class _Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A document of the agent, or a part of one."""


class DeviceInfo(_Answer, frozen=True):
    """What a device has (``bakit.agent.device_info``)."""

    python: Text
    numpy: Text | None
    onnxruntime: Text | None
    tensorrt: Text | None
    trtexec: Text | None
    board: Text
    system: Text
    gpu: Text | None
    sm: tuple[Count, Count] | None
    int8: bool | None
    driver_error: Text | None
    power_mode: Text | None
    power_rail: Text | None
    cache: Text
    free_mb: Amount
    problems: Annotated[dict[Text, Text], Few] = {}
    multiprocessors: Count | None = None


class Progress(_Answer, frozen=True):
    """How far the agent is (``bakit.agent.watch_job``)."""

    state: Literal["starting", "running", "done", "died"]
    stage: Step = "open"
    share: Annotated[float, Meta(ge=0, le=1)] = 0.0
    number: Annotated[int, Meta(ge=1)] = 1
    bundles: Count = 0
    error: Text = ""


class Measured(_Answer, frozen=True):
    """One bundle's measurements; its fields are those of ``RawBundle``, and what ran each layer."""

    provider: Text
    warm_up: Count
    images: Annotated[int, Meta(ge=1, le=10**6)]
    turns: Annotated[tuple[Count, ...], Few]
    stages_ns: dict[Stage, list[Nanoseconds]]
    power: Power | None
    footprint: Footprint
    golden_months: tuple[Months, ...]
    readings: tuple[Reading, ...]
    board: BoardState
    ran: Annotated[tuple[tuple[Text, Text, Count], ...], Meta(max_length=1000)] = ()
    downgraded: bool = False


class _Failed(_Answer, frozen=True):
    error: Annotated[str, Meta(min_length=1, max_length=1000, pattern=PRINTABLE)]


class _Document(_Answer, frozen=True):
    host: HostInfo
    bundles: list[msgspec.Raw]


def decode(data: bytes, kind: type[Answer]) -> Answer:
    """Return a document of the agent.

    Raises:
        AnswerError: If it is anything else.
    """
    try:
        data.decode()  # msgspec itself skips over strings that it does not need
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:
        message = "is not UTF-8"
        raise AnswerError(message) from error
    except RecursionError as error:
        message = "is nested too deeply"
        raise AnswerError(message) from error
    except msgspec.MsgspecError as error:
        message = f"is not what an agent writes ({error})"
        raise AnswerError(message) from error


def read_progress(data: bytes, bundles: int) -> Progress:
    """Return the progress of a job of some bundles.

    Raises:
        AnswerError: If it is none.
    """
    progress = decode(data, Progress)
    if progress.state == "running" and not progress.number <= progress.bundles == bundles:
        message = f"is of bundle {progress.number} of {progress.bundles}; {bundles} were sent"
        raise AnswerError(message)
    return progress


def read_raw(data: bytes, task: Task, references: dict[str, tuple[Reading, ...]]) -> Raw:
    """Return the agent's measurements of a task.

    Raises:
        AnswerError: If they are not of the task's bundles and images, or cannot be.
    """
    document = decode(data, _Document)
    if len(document.bundles) != len(task.bundles):
        message = f"has {len(document.bundles)} bundles; {len(task.bundles)} were sent"
        raise AnswerError(message)
    pairs = zip(document.bundles, task.bundles, strict=True)
    raw = tuple(_read_bundle(bytes(found), bundle, task) for found, bundle in pairs)
    return Raw(document.host, raw, references=references)


def _read_bundle(found: bytes, bundle: Bundle, task: Task) -> RawBundle:
    if found.startswith(b'{"error"'):
        return RawBundle(error=decode(found, _Failed).error)
    measured = decode(found, Measured)
    problem = _mismatch(measured, bundle, task)
    if problem:
        message = f"has {problem} for {bundle.name}"
        raise AnswerError(message)
    raw = msgspec.convert(measured, RawBundle, from_attributes=True)
    return msgspec.structs.replace(raw, executed=executed_shares(measured.ran))


def _mismatch(measured: Measured, bundle: Bundle, task: Task) -> str:
    """Return what was not asked for; empty if all was."""
    localizes = bundle.manifest.preprocessing.localize
    stages = {"regress", "total"} | ({"localize"} if localizes else set())
    counts = {len(times) for times in measured.stages_ns.values()}
    if measured.stages_ns.keys() != stages:
        return f"times of {', '.join(sorted(measured.stages_ns)) or 'no stage'}"
    if len(counts) != 1 or min(counts) < task.settings.min_queries:
        wanted = task.settings.min_queries
        return f"{' and '.join(map(str, sorted(counts)))} times where {wanted} or more were asked"
    if {sum(measured.turns)} != counts or 0 in measured.turns:
        return f"turns of {sum(measured.turns)} times instead of {min(counts)}"
    golden = len(bundle.manifest.golden)
    if len(measured.golden_months) != golden:
        return f"{len(measured.golden_months)} golden ages instead of {golden}"
    if [reading.id for reading in measured.readings] != [sample.id for sample in task.samples]:
        return "ages of other images than those that were sent"
    if any((reading.box is None) is localizes for reading in measured.readings):
        return "ages without boxes" if localizes else "boxes without a localizer"
    return ""
