"""Messages between this machine and the page: the plan, and the numbers that it posts.

The page is not trusted: every message is decoded strictly, with limits on lengths and values.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec

from bakit.errors import InputError

_T = TypeVar("_T")

MAX_BODY = 256 * 1024
"""Largest message, in bytes: a block of times or ages is far smaller."""

MAX_VALUES = 512
"""Most numbers in one list."""

Provider: TypeAlias = Literal["wasm", "webgpu", "webnn"]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=3.6e6)]
Number = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Numbers = Annotated[list[Number], msgspec.Meta(max_length=MAX_VALUES)]
Times = Annotated[list[Milliseconds], msgspec.Meta(max_length=MAX_VALUES)]
Index = Annotated[int, msgspec.Meta(ge=0, le=10**6)]
Words = Annotated[str, msgspec.Meta(max_length=400)]


# In this order: most browsers also call themselves Safari, and many Chrome.
_NAMES = (
    ("Firefox", r"(?:Firefox|FxiOS)/([\d.]+)"),
    ("Edge", r"(?:Edg|EdgA|EdgiOS)/([\d.]+)"),
    ("Samsung Internet", r"SamsungBrowser/([\d.]+)"),
    ("Chrome", r"(?:HeadlessChrome|Chrome|CriOS)/([\d.]+)"),
    ("Safari", r"Version/([\d.]+).* Safari/"),
)


class Browser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The browser's own description, sent when a person presses the button.

    Attributes:
        user_agent: Its ``navigator.userAgent``.
        brands: Names and versions, where it has client hints; empty elsewhere.
        model: Model of the device; empty where it does not tell.
        system: System and its version; empty where it does not tell.
        logical_cores: ``navigator.hardwareConcurrency``.
        isolated: ``crossOriginIsolated``.
        timer_step_ms: Smallest step of ``performance.now()`` seen.
    """

    user_agent: Words
    brands: Words
    model: Words
    system: Words
    logical_cores: Annotated[int, msgspec.Meta(ge=1, le=4096)] | None
    isolated: bool
    timer_step_ms: Annotated[float, msgspec.Meta(ge=0, le=1000)]

    @property
    def name(self) -> str:
        """Name and version: the client hints where there are any, else the user agent's."""
        if self.brands:
            return self.brands
        for name, pattern in _NAMES:
            if found := re.search(pattern, self.user_agent):
                return f"{name} {found[1]}"
        return "unknown browser"

    @property
    def device(self) -> str:
        """Model and system of the device; iPhones do not tell their model."""
        told = ", ".join(part for part in (self.model, self.system) if part)
        found = re.search(r"\(([^)]*)\)", self.user_agent)
        return told or (found[1] if found else "unknown device")


class ModelPlan(msgspec.Struct, frozen=True):
    """One model file, fetched from ``models/<bundle>/<role>``: digest, size, name of the output."""

    sha256: str
    bytes: int
    output: str


class BundlePlan(msgspec.Struct, frozen=True):
    """One bundle.

    Attributes:
        name: Its name.
        precision: Number format of the regressor.
        models: By role.
        working: Side of the localizer's input.
        side: Side of the regressor's input.
        sex: Whether the regressor reads the sex.
        labels: Whether the localizer answers with labels (int32), else certainty (float32).
        golden_male: Sex of each golden image: 1 male, 0 female.
        golden_months: The bundle's own ages at its export.
        tolerance_months: How far an age may be from those.
        localizer_tolerance: How far the localizer's answer may be, see ``GoldenAnswers``.
        crops: Which set of crops it reads, in ``crops/<set>/<start>``.
        float_months: Ages of its reference for the drift set, to show how far off it is.
    """

    name: str
    precision: str
    models: dict[str, ModelPlan]
    working: int
    side: int
    sex: bool
    labels: bool
    golden_male: list[int]
    golden_months: list[float]
    tolerance_months: float
    localizer_tolerance: float
    crops: int
    float_months: list[float]


class Plan(msgspec.Struct, frozen=True):
    """The plan of a run.

    Attributes:
        run: Number of this start; messages of an earlier one are refused.
        provider: What runs the networks.
        threads: Threads of WASM.
        runtime: Module of onnxruntime-web, below ``ort/``.
        warm_up: Runs of each model before the first that counts.
        min_queries: Least times of each model.
        max_queries: Most times of each model.
        min_duration_s: Least time in them.
        block: Times of one bundle in a row.
        drift_male: Sex of each image of the drift set.
        chunk: Images in one file of crops.
        bundles: The bundles.
    """

    run: int
    provider: Provider
    threads: int
    runtime: str
    warm_up: int
    min_queries: int
    max_queries: int
    min_duration_s: float
    block: int
    drift_male: list[int]
    chunk: int
    bundles: list[BundlePlan]


class Loaded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="loaded"):
    """A bundle's models have the right digests and are open; ``load_ms`` leaves out downloads."""

    bundle: Index
    load_ms: Milliseconds
    first_ms: Milliseconds


class GoldenAnswers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="golden"):
    """A bundle's answers to its golden inputs, one of each list an image.

    ``localizer_difference`` is that of ``bakit.bench.report.device.Phone``.
    """

    bundle: Index
    ages_months: Numbers
    localizer_difference: Numbers


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="latency"):
    """A block of times of both models, as many of each.

    ``runs_per_sample`` is how many runs one time is the mean of, the larger of the two models'.
    """

    bundle: Index
    localize_ms: Times
    regress_ms: Times
    runs_per_sample: Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Ages(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ages"):
    """Ages of images of the drift set, from the image ``start`` on."""

    bundle: Index
    start: Index
    ages_months: Numbers


class Alive(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="alive"):
    """Nothing new, but the page is still there."""


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="done"):
    """Everything was posted."""


class Failed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="failed"):
    """The page cannot go on."""

    message: Words


Message: TypeAlias = Loaded | GoldenAnswers | Latency | Ages | Alive | Done | Failed


class Post(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message in its envelope.

    Attributes:
        run: Number of the start that it belongs to.
        sequence: Place among the messages of that start: a repeated one is not counted twice.
        message: The message.
    """

    run: Index
    sequence: Index
    message: Message


def decode_browser(body: bytes) -> Browser:
    """Decode a browser's description.

    Raises:
        InputError: If it is not that.
    """
    return _decode(body, Browser, "the description of a browser")


def decode_post(body: bytes) -> Post:
    """Decode a message.

    Raises:
        InputError: If it is none.
    """
    return _decode(body, Post, "a message of the page")


def _decode(body: bytes, kind: type[_T], words: str) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)  # takes finite numbers only
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"not {words} ({error})"
        raise InputError(message) from error
