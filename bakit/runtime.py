"""Run a bundle on this machine: radiograph and sex in, months out."""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from bakit.bundle import Bundle
from bakit.errors import InputError
from bakit.geometry import Box
from bakit.localizers import method_of
from bakit.locate import Found, Scores, choose, locate, look
from bakit.preprocess import decode, preprocess
from bakit.targets import get_target

if TYPE_CHECKING:
    from types import TracebackType

    import numpy.typing as npt

    from bakit.locate import Seen
    from bakit.preprocess import Grey
    from bakit.settings import LocalizerSettings
    from bakit.targets import Backend, Session

Sex = Literal["M", "F"]
STAGES = ("decode", "localize", "preprocess", "regress", "total")


class Quality(msgspec.Struct, frozen=True):
    """Whether a prediction can be used as it is.

    Attributes:
        status: ``accept``, ``review`` (a person should look) or ``reject``.
        reasons: Why, as codes (``bakit.locate.Found``); ``no_hand_found``: the whole image was used
            instead of a crop.
    """

    status: Literal["accept", "review", "reject"]
    reasons: tuple[str, ...] = ()


class Prediction(msgspec.Struct, frozen=True):
    """What the models say of one radiograph.

    Attributes:
        age_months: Bone age.
        interval_months: Lower and upper bound of the true age, at the level that the manifest
            says (``bakit.conformal``); None where the checkpoint has none.
        box: The hand, in pixels of the image; the whole image if none was found.
        quality: Whether it can be used as it is.
        stages_ms: Time by stage: decode, localize, preprocess, regress, total.
        target: Name of the target that ran.
        precision: Number format of the regressor.
        provider: What ran it on this machine.
        bundle_sha256: Digest of the bundle.
    """

    age_months: float
    interval_months: tuple[float, float] | None
    box: Box
    quality: Quality
    stages_ms: dict[str, float]
    target: str
    precision: str
    provider: str
    bundle_sha256: str


class Localization(msgspec.Struct, frozen=True):
    """Where the hand is.

    Attributes:
        box: The hand, in pixels of the image; None if none was found.
        method: How it was looked for.
        ms: Time of the localizer and the choice of the hand.
        reasons: What speaks against the box, as codes (``bakit.locate.Found``).
        scores: What the reasons rest on; None without a hand.
    """

    box: Box | None
    method: str
    ms: float
    reasons: tuple[str, ...] = ()
    scores: Scores | None = None


class Runtime:
    """A bundle, open: opens the models once, then predicts.

    Args:
        bundle: The bundle, or its folder.
        threads: Threads of the backend; its own choice when None.
        backend: What opens the models; the target's own when None.

    Raises:
        BundleError: If the bundle is damaged or was changed.
        MissingBackendError: If the target's library is not installed.

    Examples:
        >>> with Runtime("bakit-bundles/bakit-rsna100-onnx-fp32") as runtime:  # doctest: +SKIP
        ...     print(runtime.predict("hand.png", "F").age_months)
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        threads: int | None = None,
        *,
        backend: Backend | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            message = f"threads={threads} is not possible; use 1 or more"
            raise InputError(message)
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.read(Path(bundle))
        manifest = self.bundle.manifest
        backend = backend or get_target(manifest.target).load_backend()
        # The regressor first: its precision may be refused, before anything is built.
        artifacts = [self.bundle.artifact(role) for role in ("regressor", "localizer")]
        started = time.perf_counter()
        with ExitStack() as stack:
            sessions = {}
            for artifact in artifacts:
                path = self.bundle.root / artifact.path
                session = backend.open_session(path, artifact, threads)
                sessions[artifact.role] = stack.enter_context(session)
            self._stack = stack.pop_all()
        self.localizer: Session = sessions["localizer"]
        self._regressor: Session = sessions["regressor"]
        self._wants_sex = len(self.bundle.artifact("regressor").inputs) > 1
        self.load_ms = (time.perf_counter() - started) * 1000

    @property
    def provider(self) -> str:
        """What runs the regressor on this machine."""
        return self._regressor.provider

    @property
    def int8_share(self) -> float:
        """Share of the regressor's multiply-adds in INT8, 0..1.

        As the library executes them, where it tells; else as the file asks for.
        """
        written = self.bundle.artifact("regressor").int8_share
        executed: float = getattr(self._regressor, "int8_share", written)
        return executed

    def predict(self, image: str | Path | bytes | npt.NDArray[np.generic], sex: Sex) -> Prediction:
        """Return the bone age of one radiograph.

        Args:
            image: Path or bytes of a PNG or JPEG, or an array (``bakit.preprocess.decode``).
            sex: ``"M"`` or ``"F"``: bone age is read against the child's sex, so there is no
                default.

        Raises:
            ImageError: If the image cannot be used.
            InputError: If ``sex`` is neither M nor F.
        """
        male = is_male(sex)
        clock = [time.perf_counter_ns()]
        grey = decode(image)
        clock.append(time.perf_counter_ns())
        found = self.find(grey)
        box = found.box
        clock.append(time.perf_counter_ns())
        pixels = self.preprocess(grey, box)
        clock.append(time.perf_counter_ns())
        age = self.regress(pixels, male=male)
        clock.append(time.perf_counter_ns())
        spans = [(end - start) / 1e6 for start, end in pairwise(clock)]
        spans.append((clock[-1] - clock[0]) / 1e6)
        intervals = self.bundle.manifest.intervals
        return Prediction(
            age_months=age,
            interval_months=intervals.around(age, male=male) if intervals else None,
            box=box or Box(0, 0, grey.shape[1], grey.shape[0]),
            quality=Quality("review" if found.reasons else "accept", found.reasons),
            stages_ms=dict(zip(STAGES, spans, strict=True)),
            target=self.bundle.manifest.target,
            precision=self.bundle.manifest.precision.value,
            provider=self.provider,
            bundle_sha256=self.bundle.sha256,
        )

    def localize(self, image: str | Path | bytes | npt.NDArray[np.generic]) -> Localization:
        """Find the hand in one radiograph.

        Args:
            image: As for ``predict``.

        Raises:
            ImageError: If the image cannot be used.
        """
        return localize(decode(image), self.localizer, self.bundle.manifest.localizer)[1]

    def find(self, grey: Grey) -> Found:
        """Return the hand in pixels of ``grey``; nothing at all if hands are not looked for."""
        if not self.bundle.manifest.preprocessing.localize:
            return Found(None)
        return locate(grey, self.localizer, self.bundle.manifest.localizer)

    def locate(self, grey: Grey) -> Box | None:
        """Return the hand's box in pixels of ``grey``, None if none was found or looked for."""
        return self.find(grey).box

    def preprocess(self, grey: Grey, box: Box | None) -> Grey:
        """Return the regressor's input, ``(S, S)`` float32 in 0..1."""
        return preprocess(grey, box, self.bundle.manifest.preprocessing)

    def regress(self, pixels: Grey, *, male: bool) -> float:
        """Return the age in months for one preprocessed image ``(S, S)``."""
        feeds = {"image": pixels[None, None]}
        if self._wants_sex:
            feeds["sex"] = np.array([[male]], np.float32)
        return float(self._regressor.run(feeds)["age_months"].item())

    def close(self) -> None:
        """Free the models."""
        self._stack.close()

    def __enter__(self) -> Runtime:
        """Return the runtime itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the models."""
        self.close()


def localize(
    grey: Grey, session: Session, settings: LocalizerSettings
) -> tuple[Seen, Localization]:
    """Find the hand with an open localizer, and take the time.

    Args:
        grey: ``(H, W)`` float32 in 0..1.
        session: The localizer.
        settings: Its settings.

    Returns:
        What the localizer saw, and where the hand is.
    """
    started = time.perf_counter()
    seen = look(grey, session, settings)
    found = choose(seen, (grey.shape[0], grey.shape[1]))
    ms = (time.perf_counter() - started) * 1000
    return seen, Localization(found.box, method_of(settings), ms, found.reasons, found.scores)


def is_male(sex: str) -> bool:
    """Return whether a sex letter means male.

    Raises:
        InputError: If it is neither ``M`` nor ``F``.
    """
    if sex not in {"M", "F"}:
        message = f"sex {sex!r} is not possible; use M or F"
        raise InputError(message)
    return sex == "M"
