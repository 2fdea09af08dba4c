"""Messages between the server and the page: the plan, and the posted measurements.

The page is not trusted: messages are decoded strictly, with limits on lengths and values.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec

from bakit.documents import UNREADABLE
from bakit.errors import InputError

_T = TypeVar("_T")

MAX_BODY = 256 * 1024
"""Maximum size of a message, in bytes."""

MAX_VALUES = 512
"""Maximum number of values in one list."""

Provider: TypeAlias = Literal["wasm", "webgpu", "webnn"]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=3.6e6)]
Number = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Numbers = Annotated[list[Number], msgspec.Meta(max_length=MAX_VALUES)]
Times = Annotated[list[Milliseconds], msgspec.Meta(max_length=MAX_VALUES)]
Index = Annotated[int, msgspec.Meta(ge=0, le=10**6)]
Words = Annotated[str, msgspec.Meta(max_length=400)]


# The order matters: most user agents also contain Safari, and many contain Chrome.
_NAMES = (
    ("Firefox", r"(?:Firefox|FxiOS)/([\d.]+)"),
    ("Edge", r"(?:Edg|EdgA|EdgiOS)/([\d.]+)"),
    ("Samsung Internet", r"SamsungBrowser/([\d.]+)"),
    ("Chrome", r"(?:HeadlessChrome|Chrome|CriOS)/([\d.]+)"),
    ("Safari", r"Version/([\d.]+).* Safari/"),
)


class Browser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Description of the browser, sent when the user presses Start.

    Attributes:
        user_agent: ``navigator.userAgent``.
        brands: Names and versions from client hints; empty without client hints.
        model: Model of the device; empty if unknown.
        system: System and version; empty if unknown.
        logical_cores: ``navigator.hardwareConcurrency``.
        isolated: ``crossOriginIsolated``.
        timer_step_ms: Measured resolution of ``performance.now()``.
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
        """Name and version, from client hints or else from the user agent."""
        if self.brands:
            return self.brands
        for name, pattern in _NAMES:
            if found := re.search(pattern, self.user_agent):
                return f"{name} {found[1]}"
        return "unknown browser"

    @property
    def device(self) -> str:
        """Model and system of the device; iPhones do not report their model."""
        hints = ", ".join(part for part in (self.model, self.system) if part)
        found = re.search(r"\(([^)]*)\)", self.user_agent)
        return hints or (found[1] if found else "unknown device")


class ModelPlan(msgspec.Struct, frozen=True):
    """One model file at ``models/<bundle>/<role>``: digest, size and name of its output."""

    sha256: str
    bytes: int
    output: str


class BundlePlan(msgspec.Struct, frozen=True):
    """One bundle.

    Attributes:
        name: Name of the bundle.
        precision: Number format of the regressor.
        models: Model files by role.
        working: Side of the localizer's input, in pixels.
        side: Side of the regressor's input, in pixels.
        sex: Whether the regressor has the sex as an input.
        labels: Whether the localizer returns labels (int32) or certainties (float32).
        golden_male: Sex of each golden image: 1 male, 0 female.
        golden_months: Ages of the golden images at export.
        tolerance_months: Maximum mean difference from ``golden_months``.
        localizer_tolerance: Maximum difference of the localizer, see ``GoldenAnswers``.
        crops: Index of the bundle's set of crops, in ``crops/<set>/<start>``.
        float_months: Ages of the drift set predicted by the reference.
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
        run: Number of this start; messages of earlier starts are refused.
        provider: Backend of onnxruntime-web.
        threads: Threads of WASM.
        runtime: Module of onnxruntime-web, below ``ort/``.
        warm_up: Warm-up runs of each model.
        min_queries: Minimum number of queries of each model.
        max_queries: Maximum number of queries of each model.
        min_duration_s: Minimum duration of the queries.
        block: Consecutive queries of one bundle.
        drift_male: Sex of each image of the drift set: 1 male, 0 female.
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
    """A bundle's digests are correct and its models are open; ``load_ms`` excludes downloads."""

    bundle: Index
    load_ms: Milliseconds
    first_ms: Milliseconds


class GoldenAnswers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="golden"):
    """A bundle's predictions for its golden images, one value per image in each list.

    ``localizer_difference`` is defined in ``bakit.bench.report.device.Phone``.
    """

    bundle: Index
    ages_months: Numbers
    localizer_difference: Numbers


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="latency"):
    """A block of latencies of both models, the same number of each.

    A sample is the mean of ``runs_per_sample`` runs; the value is the larger of both models'.
    """

    bundle: Index
    localize_ms: Times
    regress_ms: Times
    runs_per_sample: Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Ages(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ages"):
    """Ages of consecutive images of the drift set, starting at the image ``start``."""

    bundle: Index
    start: Index
    ages_months: Numbers


class Alive(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="alive"):
    """Heartbeat: the page is still open."""


class Done(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="done"):
    """All measurements were posted."""


class Failed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="failed"):
    """The page stopped with an error."""

    message: Words


Message: TypeAlias = Loaded | GoldenAnswers | Latency | Ages | Alive | Done | Failed


class Post(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message with its run and sequence number.

    Attributes:
        run: Number of the start.
        sequence: Number of the message within that start; repeated messages are ignored.
        message: The message.
    """

    run: Index
    sequence: Index
    message: Message


def decode(body: bytes, kind: type[_T]) -> _T:
    """Decode a ``Browser`` or a ``Post``; raises ``InputError`` if the body is invalid."""
    try:
        return msgspec.json.decode(body, type=kind)  # takes finite numbers only
    except UNREADABLE as error:
        words = "a message of the page" if kind is Post else "the description of a browser"
        message = f"not {words} ({error})"
        raise InputError(message) from error
