"""Deployment targets as data, without importing vendor libraries."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from bakit.errors import MissingBackendError, MissingProgramError, UnsupportedTargetError, unknown
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bundle import Artifact
    from bakit.model.checkpoint import Checkpoint
    from bakit.sealed import SealedFiles
    from bakit.session import Session
    from bakit.settings import LocalizerForm, Ranges

ENTRY_POINTS = "bakit.targets"
"""Entry-point group in which other packages add targets."""


class Backend(Protocol):
    """The module that opens a target's files for inference.

    An optional ``probe()`` returns the device that would run them, in words, or raises a
    ``MissingBackendError`` with the command that makes it work. An optional ``with_provider(name)``
    returns the backend with a provider of its library. An optional ``opens_at_once`` says that the
    models of a bundle open faster in several threads.
    """

    def open_session(self, files: SealedFiles, artifact: Artifact, threads: int) -> Session:
        """Load a model from the files that the manifest lists for it; it opens no others."""
        ...


class Exporter(Protocol):
    """The module that writes a target's files.

    An optional ``finish(bundle)`` is called with the finished bundle.
    """

    def export(
        self, checkpoint: Checkpoint, request: ExportRequest, out: Path
    ) -> Sequence[Artifact]:
        """Write the regressor's and the localizer's files into ``out``."""
        ...


@dataclass(frozen=True)
class ExportRequest:
    """Arguments of an exporter.

    Attributes:
        precision: Number format of the regressor.
        localizer_form: How the SGD steps are written (``bakit.settings.LocalizerForm``).
        ranges: Activation ranges; None unless the precision is INT8.
        whole: Whether to write the whole graph too (``bakit.export.onnx.whole``).
    """

    precision: Precision
    localizer_form: LocalizerForm
    ranges: Ranges | None
    whole: bool = False


@dataclass(frozen=True)
class Target:
    """A runtime that bakit exports to.

    Attributes:
        name: Name on the command line and in a manifest.
        title: Short description.
        suffix: File suffix of its models.
        precisions: Supported number formats.
        exporter: Module with ``export``.
        backend: Module with ``open_session``.
        extra: Optional-dependency group of ``backend``'s imports.
        verified: How it was tested.
        portable: Whether its files run on other machines than the one that wrote them.
        export_extra: Groups of ``exporter``'s imports, separated by commas.
        writers: Further packages whose versions determine the files' bytes.
        note: Remarks on precisions; empty if there are none.
        platform: ``sys.platform`` of the only system that can run it; empty for any system.
        reference: Name of the target whose backend checks its files on other systems; empty if
            there is none.
        localizer_form: Default form of the SGD steps.
        whole: Number formats of its whole graph; empty if it has none.
        localizers: Methods of localization that it can run.
    """

    name: str
    title: str
    suffix: str
    precisions: frozenset[Precision]
    exporter: str
    backend: str
    extra: str
    verified: str
    portable: bool = True
    export_extra: str = "export"
    writers: tuple[str, ...] = ()
    note: str = ""
    platform: str = ""
    reference: str = ""
    localizer_form: LocalizerForm = "winograd"
    whole: frozenset[Precision] = frozenset()
    localizers: tuple[str, ...] = ("student", "unrolled")

    @property
    def runs_here(self) -> bool:
        """Whether this operating system can run it."""
        return self.platform in {"", sys.platform}

    def load_backend(self, provider: str | None = None) -> Backend:
        """Import the backend, and choose a provider of its library.

        Raises:
            MissingBackendError: If a library or the provider is not installed, or this operating
                system cannot run it.
            InputError: If the provider is unknown.
            UnsupportedTargetError: If the target has no providers.
        """
        if not self.runs_here:
            need = f"target {self.name!r} runs on {_SYSTEMS.get(self.platform, self.platform)} only"
            remedy = f"here, export and run target {self.reference!r}, the same models"
            raise MissingProgramError(need, remedy)
        backend: Any = self._load(self.backend, self.extra)
        if provider is not None:
            if not hasattr(backend, "with_provider"):
                message = f"target {self.name!r} has no providers: --provider is for onnx bundles"
                raise UnsupportedTargetError(message)
            backend = backend.with_provider(provider)
        return cast("Backend", backend)

    def load_checker(self) -> Backend:
        """Import the backend that checks the files at export: its own, or the reference target's.

        Raises:
            MissingBackendError: If a library is not installed.
        """
        if not self.reference or (self.platform and self.runs_here):
            return self.load_backend()
        return get_target(self.reference).load_backend()

    def check_runs(self) -> str:
        """Probe that this machine can run it; return the device in words, if the backend knows it.

        Raises:
            MissingBackendError: If it cannot; the message has the command that mends it.
        """
        return str(getattr(self.load_backend(), "probe", lambda: "")())

    def check_exports(self) -> None:
        """Probe that this machine can export it and check the result.

        Raises:
            MissingBackendError: If a library is missing; the message has the command that mends it.
        """
        for module in ("safetensors.numpy", "bakit.export.bundle"):
            self._load(module, self.export_extra)
        self.load_exporter()
        self.load_checker()

    def check_precision(self, precision: Precision) -> None:
        """Check that it supports a precision.

        Raises:
            UnsupportedTargetError: If it does not.
        """
        if precision not in self.precisions:
            known = ", ".join(sorted(item.value for item in self.precisions))
            message = f"target {self.name!r} does not support {precision.value}; "
            message += f"it supports {known}"
            raise UnsupportedTargetError(message)

    def load_exporter(self) -> Exporter:
        """Import the exporter.

        Raises:
            MissingBackendError: If a library is not installed.
        """
        return cast("Exporter", self._load(self.exporter, self.export_extra))

    def _load(self, module: str, extra: str) -> object:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("bakit"):
                raise  # a bug, not a missing library
            need = f"target {self.name!r}"
            raise MissingBackendError(need, extra) from error


_SYSTEMS = {"darwin": "macOS"}
_USUAL = frozenset({Precision.FP32, Precision.FP16, Precision.INT8})
_WHOLE = frozenset({Precision.FP32, Precision.INT8})

_COREML = Target(
    name="coreml",
    title="Core ML on an iPhone, iPad or Mac",
    suffix=".mlpackage",
    precisions=frozenset(Precision),
    exporter="bakit.export.coreml",
    backend="bakit.backends.coreml",
    extra="coreml",
    verified="not yet run on Apple hardware; by the reference runtime in every test run",
    export_extra="export,coreml",
    writers=("coremltools",),
    note="verify it on a Mac: bakit verify BUNDLE --on-device",
    platform="darwin",
    reference="coreml-reference",
    localizer_form="loop",
)

_BUILT_IN = (
    Target(
        name="torch",
        title="the float checkpoint itself, the reference",
        suffix=".safetensors",
        precisions=frozenset({Precision.FP32}),
        exporter="bakit.export.eager",
        backend="bakit.backends.torch_eager",
        extra="train",
        verified="every test run, on x86-64 Linux",
    ),
    Target(
        name="onnx",
        title="ONNX Runtime on a CPU",
        suffix=".onnx",
        precisions=frozenset({Precision.FP32, Precision.INT8}),
        exporter="bakit.export.ort",
        backend="bakit.backends.ort",
        extra="ort",
        verified="every test run, on x86-64 Linux; on Arm under emulation (docs/arm.md)",
        whole=_WHOLE,
    ),
    Target(
        name="openvino",
        title="OpenVINO on a CPU",
        suffix=".xml",
        precisions=_USUAL,
        exporter="bakit.export.openvino",
        backend="bakit.backends.openvino",
        extra="openvino",
        verified="every test run, on x86-64 Linux; not yet on Arm",
        export_extra="export,openvino",
        writers=("openvino",),
        whole=_WHOLE,
        note="fp16: weights only, unless the CPU has float16 arithmetic. int8: on Arm, OpenVINO "
        "computes in floating point. A prediction's provider names the arithmetic",
    ),
    Target(
        name="litert",
        title="LiteRT (TensorFlow Lite) with XNNPACK on a CPU",
        suffix=".tflite",
        precisions=_USUAL,
        exporter="bakit.export.litert",
        backend="bakit.backends.litert",
        extra="litert",
        verified="every test run, on x86-64 Linux; not yet on Android",
        export_extra="export,litert",
        writers=("ai-edge-litert", "flatbuffers"),
        note="fp16: weights only. It has no unrolled localizer",
        localizers=("student",),
    ),
    Target(
        name="coreai",
        title="Core AI, from iOS 27 and macOS 27 (beta)",
        suffix=".aimodel",
        precisions=frozenset({Precision.FP32, Precision.INT8}),
        exporter="bakit.export.coreai",
        backend="bakit.backends.coreai",
        extra="coreai",
        verified="not yet run on Apple hardware; by Apple's runtime for the CPU, on x86-64 Linux, "
        "in test runs with coreai-core",
        export_extra="export,coreai",
        writers=("coreai-core", "coreai-onnx"),
        note="beta. On Linux its timings mean nothing. It has no unrolled localizer",
        localizers=("student",),
    ),
    Target(
        name="tensorrt",
        title="TensorRT 8.2 to 11 on NVIDIA GPUs, Jetsons among them",
        suffix=".onnx",
        precisions=_USUAL,
        exporter="bakit.export.tensorrt",
        backend="bakit.backends.trt",
        extra="tensorrt",
        verified="not yet run on a GPU or a Jetson; in every test run, TensorRT-RTX's compiler "
        "builds each graph and ONNX Runtime runs it; see docs/tensorrt.md",
        note="each device builds its engine from the graphs at first use. int8 needs a GPU with "
        "INT8 arithmetic, unlike the Jetson Nano's",
        reference="onnx",
        localizer_form="loop",
    ),
    _COREML,
    replace(
        _COREML,
        name="coreml-reference",
        title="Core ML's files, run by a numpy reference",
        backend="bakit.backends.mil",
        verified="every test run, on x86-64 Linux",
        note="checks Core ML's files on any system; its predictions stand in for Core ML's, its "
        "timings mean nothing",
        platform="",
        reference="",
    ),
)


def targets() -> dict[str, Target]:
    """Return every known target by name; plug-ins that fail to load are left out."""
    return find_targets()[0]


def find_targets() -> tuple[dict[str, Target], dict[str, str]]:
    """Return every known target by name, and the errors of plug-ins that failed to load."""
    from importlib.metadata import entry_points  # noqa: PLC0415  # 10 ms, for plug-ins alone

    found = {target.name: target for target in _BUILT_IN}
    failed: dict[str, str] = {}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            target = point.load()
        except Exception as error:  # somebody else's code may raise anything
            failed[point.name] = f"{type(error).__name__}: {error}"
            continue
        if not isinstance(target, Target):
            failed[point.name] = f"{point.value} is a {type(target).__name__}, not a Target"
        else:
            found.setdefault(target.name, target)
    return found, failed


def get_target(name: str) -> Target:
    """Return the target called ``name``.

    Raises:
        UnsupportedTargetError: If there is none.
    """
    known = {target.name: target for target in _BUILT_IN}
    if name not in known:  # to look for plug-ins takes 20 ms
        known = targets()
    if name not in known:
        raise UnsupportedTargetError(unknown("target", name, sorted(known)))
    return known[name]
