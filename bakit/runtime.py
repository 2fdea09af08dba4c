"""Run a bundle on this machine: predict the bone age of radiographs."""

from __future__ import annotations

import logging
import math
import platform
import time
from contextlib import ExitStack
from functools import partial
from itertools import pairwise, repeat, zip_longest
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np

from bakit import __version__
from bakit.bundle import Bundle
from bakit.data.parallel import beside, in_threads
from bakit.errors import BakitError, BundleError, InputError, VerificationError, first_line
from bakit.hand.found import Localization
from bakit.hand.prepare import OpenLocalizer, crop, find, find_whole, localize, prepare
from bakit.image.box import Box
from bakit.image.read import input_digest, read_radiograph
from bakit.prediction import Prediction, Sex, is_male, read_sex, sex_of
from bakit.processes import cpu_count
from bakit.quality.judge import Judge
from bakit.quality.limits import Quality
from bakit.quality.measures import turned
from bakit.session import Closing, Gate, GuardedSession, int8_share
from bakit.targets import get_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from bakit.bundle import Artifact, Role
    from bakit.hand.found import Found, LocalizerOutput
    from bakit.hand.prepare import Answer, Hand
    from bakit.image.read import Image
    from bakit.session import Executed, Session
    from bakit.targets import Backend
    from bakit.types import Bytes, Grey

__all__ = ["STAGES", "Localization", "Prediction", "Quality", "Runtime", "Sex"]

STAGES = ("decode", "localize", "preprocess", "quality", "regress", "total")

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())


class Runtime(Closing):
    """An open bundle: it opens the models once, then predicts.

    Several threads may use one runtime, with the same results. It has no global state, opens no
    connection and writes no file. The logger ``bakit.runtime`` logs times and quality of each
    prediction at level DEBUG, and nothing about the image, its file or the child.

    Args:
        bundle: The bundle, or its folder.
        threads: Threads of the backend; one per CPU that this process may use when None.
        public_key: Public key that must verify the bundle's signature (``bakit.signature``).
        backend: Opens the models; the target's own backend, with ``provider``, when None.
        whole: Whether the whole graph predicts the ages, which an export with ``--whole`` has. The
            results are the same; the other models run where the graph has no step
            (``bakit.hand.prepare.find_whole``), on films of 16 bits, and for ``thorough``. A
            prediction's ``provider`` says which of them it is from.
        provider: Provider of ONNX Runtime, for bundles of target ``onnx``: ``cuda``, ``xnnpack`` or
            another of ``bakit.agent.PROVIDERS``, in short or in full. The CPU runs the nodes that
            it does not take, and a prediction's ``provider`` counts them.

    Raises:
        BundleError: If the bundle is damaged, was changed or is not signed with the key, or if its
            models do not fit its manifest.
        MissingBackendError: If the target's library or the provider is not installed.
        InputError: If the provider is unknown.
        UnsupportedTargetError: If the target has no providers.

    Examples:
        >>> with Runtime("bakit-bundles/bakit-rsna299-onnx-fp32") as runtime:  # doctest: +SKIP
        ...     print(runtime.predict("hand.png", "F").age_months)
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        threads: int | None = None,
        *,
        public_key: str | Path | None = None,
        backend: Backend | None = None,
        whole: bool = False,
        provider: str | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            message = f"threads={threads} is not possible; use 1 or more"
            raise InputError(message)
        if isinstance(bundle, Bundle) and public_key is None:
            self.bundle = bundle
        else:
            root = bundle.root if isinstance(bundle, Bundle) else Path(bundle)
            key = None if public_key is None else Path(public_key)
            self.bundle = Bundle.read(root, key, check_files=False)
        manifest = self.bundle.manifest
        backend = backend or get_target(manifest.target).load_backend(provider)
        self.versions = _versions(backend)
        # The regressor first: an unsupported precision fails before anything is built.
        roles: tuple[Role, ...] = ("regressor", "localizer", "whole")
        artifacts = [self.bundle.artifact(role) for role in roles[: 3 if whole else 2]]
        started = time.perf_counter()
        with ExitStack() as stack:
            sessions = {}
            mapped = in_threads if getattr(backend, "opens_at_once", False) else map
            opened = partial(_open, backend, self.bundle, threads or cpu_count())
            for artifact, session in zip(artifacts, mapped(opened, artifacts), strict=True):
                sessions[artifact.role] = stack.enter_context(session)
                session.check_specs()
            self.bundle.files.check()  # those that no backend has read
            self._stack = stack.pop_all()
        self._gate = Gate(str(self.bundle.root))
        self.localizer = OpenLocalizer(sessions["localizer"], manifest.localizer)
        self._regressor: Session = sessions["regressor"]
        self._whole: Session | None = sessions.get("whole")
        self._wants_sex = len(self.bundle.artifact("regressor").inputs) > 1
        self._blank: dict[bool, float] = {}
        self._judge = Judge(manifest.quality)
        self.load_ms = (time.perf_counter() - started) * 1000

    def __repr__(self) -> str:
        manifest = self.bundle.manifest
        what = f"{manifest.target} {manifest.precision.value} of {manifest.checkpoint}"
        return f"Runtime({str(self.bundle.root)!r}: {what}, {self.provider})"

    @property
    def provider(self) -> str:
        """Library and device that run the regressor, or the whole graph."""
        return self._regressor.provider if self._whole is None else self._of_whole

    @property
    def whole(self) -> bool:
        """Whether the whole graph predicts."""
        return self._whole is not None

    @property
    def _of_whole(self) -> str:
        return f"{self._regressor.provider}, whole graph"

    @property
    def executed(self) -> tuple[Executed, ...]:
        """Shares of the regressor's multiply-adds by unit and number format, the largest first.

        As the library reports them; empty if it does not.
        """
        shares: tuple[Executed, ...] = getattr(self._regressor, "executed", ())
        return shares

    @property
    def int8_share(self) -> float:
        """Share of the regressor's multiply-adds in INT8, 0..1.

        As executed, if the library reports it; else as written in the file.
        """
        if shares := self.executed:
            return int8_share(shares)
        written = self.bundle.artifact("regressor").int8_share
        return float(getattr(self._regressor, "int8_share", written))

    def predict(
        self,
        image: Image,
        sex: Sex | None = None,
        *,
        allow_rejected: bool = False,
        thorough: bool = False,
    ) -> Prediction:
        """Return the bone age of one radiograph.

        Args:
            image: Path or bytes of a PNG, JPEG or DICOM file, an array, or what
                ``bakit.image.read.read_radiograph`` returned.
            sex: ``"M"`` or ``"F"``, or in words; required, since girls and boys mature at different
                ages. May be None if a DICOM header contains it.
            allow_rejected: Whether to predict an age for rejected images too.
            thorough: Whether to predict the mirrored and the rotated hand too, and report
                ``unstable`` if the age changes.

        Raises:
            ImageError: If the image cannot be used.
            InputError: If ``sex`` is no sex, is missing, or differs from the DICOM header,
                or if the runtime was closed.
            MissingBackendError: If it is a DICOM file and the extra ``dicom`` is not installed.
            BundleError: If the model cannot run.
            VerificationError: If the model predicts no finite number.
        """
        with self._gate:
            return self._predict(image, sex, allow_rejected=allow_rejected, thorough=thorough)

    def _predict(
        self, image: Image, sex: Sex | None, *, allow_rejected: bool, thorough: bool
    ) -> Prediction:
        if sex is not None:
            sex = read_sex(sex)
        clock = [time.perf_counter_ns()]
        film = read_radiograph(image)
        sex = sex_of(sex, film.header)
        male = is_male(sex)
        # Beside the prediction: it takes a tenth as long for a film of 3 megapixels.
        digest = None if film.sha256 else beside(input_digest, film.pixels)
        clock.append(time.perf_counter_ns())
        preprocessing = self.bundle.manifest.preprocessing
        output, found, answer = self._find(film.pixels, male=male)
        clock.append(time.perf_counter_ns())
        if answer is None:
            frame = None if output is None else output.frame
            pixels = crop(film.pixels, found.box, found.inverted, preprocessing, found.turn, frame)
        else:
            pixels = answer.pixels
        clock.append(time.perf_counter_ns())
        measures = self._judge.measures(film.pixels, output, found, pixels)
        doubts: tuple[str, ...] = ()
        if film.header is not None:
            doubts = film.header.doubts
            if film.header.age_months is not None:
                measures["patient_months"] = film.header.age_months
        quality = self._judge.judge(found, measures, doubts)
        clock.append(time.perf_counter_ns())
        age = None
        if quality.status != "reject" or allow_rejected:
            age = self.regress(pixels, male=male) if answer is None else answer.age_months
            measures |= self._judge.age_measures(
                age,
                lambda: self.without_image(male=male),
                lambda: self.upside_down(pixels, male=male),
            )
            if thorough and found.box is not None:
                measures["spread_months"] = self.spread(pixels, age, male=male)
            quality = self._judge.judge(found, measures, doubts)
            if quality.status == "reject" and not allow_rejected:
                age = None
        clock.append(time.perf_counter_ns())
        stages_ms = _stages_ms(clock, 0 if answer is None else answer.ms)
        _LOG.debug("%s %s %s", quality.status, ",".join(quality.reasons) or "-", stages_ms)
        manifest = self.bundle.manifest
        height, width = film.pixels.shape
        intervals = manifest.intervals if age is not None else None
        interval = None
        if intervals and age is not None:
            interval = intervals.around(age, male=male)
        chronological = film.header.age_months if film.header else None
        difference = None if age is None or chronological is None else age - chronological
        return Prediction(
            age_months=age,
            interval_months=interval,
            box=film.in_file(found.box or Box(0, 0, width, height)),
            quality=quality,
            stages_ms=stages_ms,
            target=manifest.target,
            precision=manifest.precision.value,
            provider=self._regressor.provider if answer is None else self._of_whole,
            bundle_sha256=self.bundle.sha256,
            sex=sex,
            interval_level=intervals.level if intervals else None,
            input_sha256=digest() if digest else film.sha256,
            checkpoint=manifest.checkpoint,
            checkpoint_sha256=manifest.checkpoint_sha256,
            mirrored=film.mirrored,
            turned_degrees=90 * found.turn,
            measures={name: round(value, 4) for name, value in measures.items()},
            chronological_months=chronological,
            difference_months=difference,
            versions=self.versions,
        )

    def _find(
        self, pixels: Grey | Bytes, *, male: bool
    ) -> tuple[LocalizerOutput | None, Found, Answer | None]:
        """Locate the hand, with the whole graph if it is open and takes the film."""
        if self._whole is None or pixels.dtype != np.uint8:
            return *find(pixels, self.localizer, self.bundle.manifest.preprocessing), None
        found = find_whole(pixels, self._sex(male=male), self._whole, self.localizer)  # type: ignore[arg-type]
        if found[2] is not None:
            self._check_age(found[2].age_months)
        return found

    def _sex(self, *, male: bool) -> dict[str, npt.NDArray[np.float32]]:
        """Return the models' input of the sex; empty if they have none."""
        return {"sex": np.array([[male]], np.float32)} if self._wants_sex else {}

    def predict_many(
        self,
        images: Iterable[Image],
        sexes: Iterable[Sex | None] | Sex | None = None,
        *,
        threads: int | None = None,
        allow_rejected: bool = False,
        thorough: bool = False,
    ) -> Iterator[Prediction | BakitError]:
        """Predict many radiographs in parallel; results come in order.

        Images are read when needed: at most two per thread are in memory. An image that cannot be
        used does not stop the others.

        Args:
            images: As for ``predict``.
            sexes: One for each image, or one for all; None if DICOM headers contain it.
            threads: Images at a time; one per core, at most 8, when None.
            allow_rejected: As for ``predict``.
            thorough: As for ``predict``.

        Yields:
            For each image, its prediction or the error of ``predict``.

        Raises:
            InputError: If ``threads`` is below 1, or there are more or fewer sexes than images.
        """

        def predict(pair: tuple[Image, Sex | None]) -> Prediction | BakitError:
            try:
                return self.predict(*pair, allow_rejected=allow_rejected, thorough=thorough)
            except BakitError as error:
                return error

        return in_threads(predict, _pairs(images, sexes), threads)

    def warm_up(self) -> float:
        """Run the models once and return the time in ms.

        The first run is slower than others, because libraries allocate their memory.
        """
        started = time.perf_counter()
        size = self.bundle.manifest.localizer.size
        ramp = np.tile(np.linspace(0, 1, size, dtype=np.float32), (size, 1))
        find(ramp, self.localizer, self.bundle.manifest.preprocessing)
        if self._whole is not None:
            self._find((ramp * 255).astype(np.uint8), male=True)
        for male in (False, True):
            self.without_image(male=male)
        return (time.perf_counter() - started) * 1000

    def localize(self, image: Image) -> Localization:
        """Find the hand in one radiograph, given as for ``predict``.

        Raises:
            ImageError: If the image cannot be used.
        """
        film = read_radiograph(image)
        place = localize(film.pixels, self.localizer)[1]
        if place.box is not None:
            place = msgspec.structs.replace(place, box=film.in_file(place.box))
        return place

    def prepare(self, grey: Grey | Bytes) -> Hand:
        """Locate the hand, correct its polarity and crop it (``bakit.hand.prepare``)."""
        return prepare(grey, self.localizer, self.bundle.manifest.preprocessing)

    def find(self, grey: Grey | Bytes) -> Found:
        """Return the hand in pixels of ``grey``; empty if hands are not localized."""
        return find(grey, self.localizer, self.bundle.manifest.preprocessing)[1]

    def locate(self, grey: Grey | Bytes) -> Box | None:
        """Return the hand's box in pixels of ``grey``; None if there is none."""
        return self.find(grey).box

    def preprocess(
        self, grey: Grey | Bytes, box: Box | None, *, inverted: bool = False, turn: int = 0
    ) -> Grey:
        """Return the regressor's input for a known place, ``(S, S)`` float32 in 0..1."""
        return crop(grey, box, inverted, self.bundle.manifest.preprocessing, turn)

    def regress(self, pixels: Grey, *, male: bool) -> float:
        """Return the age in months for one preprocessed image ``(S, S)``.

        Raises:
            VerificationError: If the model predicts no finite number.
        """
        feeds = {"image": pixels[None, None], **self._sex(male=male)}
        age = float(self._regressor.run(feeds)["age_months"].item())
        self._check_age(age)
        return age

    def _check_age(self, age: float) -> None:
        if not math.isfinite(age):
            message = f"{self.bundle.root}: the model predicted {age} months; export it again"
            raise VerificationError(message)

    def spread(self, pixels: Grey, age: float, *, male: bool) -> float:
        """Return the largest change of the age for the mirrored and the rotated hand, in months.

        ``age`` is the age for the regressor's input ``pixels``.
        """
        others = [*turned(pixels), np.ascontiguousarray(pixels[:, ::-1])]
        return max(abs(self.regress(other, male=male) - age) for other in others)

    def upside_down(self, pixels: Grey, *, male: bool) -> float:
        """Return the age for the regressor's input turned by 180 degrees."""
        return self.regress(np.ascontiguousarray(pixels[::-1, ::-1]), male=male)

    def without_image(self, *, male: bool) -> float:
        """Return the age for a blank image, computed once for each sex."""
        if male not in self._blank:  # two threads at once compute the same
            size = self.bundle.manifest.preprocessing.image_size
            self._blank[male] = self.regress(np.zeros((size, size), np.float32), male=male)
        return self._blank[male]

    def close(self) -> None:
        """Free the models, after running predictions; later predictions raise an InputError."""
        self._gate.close()
        self._stack.close()


def _stages_ms(clock: list[int], whole_ms: float) -> dict[str, float]:
    """Return the time of each stage from the times in ns between them.

    The whole graph ran while the hand was located; it counts as the regressor.
    """
    ms = [(end - start) / 1e6 for start, end in pairwise(clock)]
    stages = dict(zip(STAGES, [*ms, sum(ms)], strict=True))
    stages["localize"] -= whole_ms
    stages["regress"] += whole_ms
    return stages


def _open(backend: Backend, bundle: Bundle, threads: int, artifact: Artifact) -> GuardedSession:
    """Open a model from its sealed files."""
    files = bundle.files_of(artifact)
    path = str(files.root / artifact.path)
    try:
        session = backend.open_session(files, artifact, threads)
    except (BakitError, MemoryError):
        raise
    except Exception as error:  # libraries' errors have no common base
        message = f"{path}: it cannot be loaded: {first_line(error)}"
        raise BundleError(message) from error
    return GuardedSession(session, (artifact.inputs, artifact.outputs), path)


def _pairs(
    images: Iterable[Image], sexes: Iterable[Sex | None] | Sex | None
) -> Iterator[tuple[Image, Sex | None]]:
    """Yield each image with its sex; read an image only when it is needed."""
    if isinstance(images, (str, bytes, Path)):
        message = f"{type(images).__name__}: one image; give predict_many a list of images"
        raise InputError(message)
    if sexes is None or isinstance(sexes, str):
        yield from zip(images, repeat(sexes))
        return
    missing: Any = object()
    for image, sex in zip_longest(images, sexes, fillvalue=missing):
        if image is missing or sex is missing:
            message = f"there are {'more' if image is missing else 'fewer'} sexes than images"
            raise InputError(message)
        yield image, sex


def _versions(backend: object) -> dict[str, str]:
    """Return the versions of bakit, Python, and the backend's imports."""
    found = {
        "bakit": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    for value in vars(backend).values():
        if isinstance(value, ModuleType) and "." not in value.__name__:
            version = getattr(value, "__version__", None)
            if isinstance(version, str):
                found.setdefault(value.__name__, str(version))  # torch's is a subclass
    return found
