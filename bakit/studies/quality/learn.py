"""Fit the quality limits (accept, review, reject) and test them on held-out images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bakit.data.labels import known_split, read_samples, split
from bakit.errors import InputError
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.quality.limits import HandScorer, Limit, QualityLimits, Rate
from bakit.runtime import Runtime
from bakit.studies.evaluate.run import as_bundle
from bakit.studies.quality import streams
from bakit.studies.quality.changes import any_angle, exactly, far_from_upright
from bakit.studies.quality.decoys import LEARNED, MET
from bakit.studies.quality.fit import Rung, between, fit_hands, from_ladder, rare, trained_ages
from bakit.studies.quality.measure import Eye
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from bakit.data.labels import Sample, Split
    from bakit.quality.limits import HandModel, Status
    from bakit.studies.quality.fit import Chosen
    from bakit.studies.quality.measure import Looked
    from bakit.studies.quality.streams import Shown
    from bakit.types import Floats, OnProgress


LEAST = 10
"""Minimum number of images in a split."""

MET_SEEDS = 100_000
"""First seed of the held-out images without a hand."""

TURNS = (45.0, 90.0, 180.0, 270.0)
"""Rotations, in degrees, that the limits are tested on."""

_PLAIN = ("noise", "nearly blank")
"""Kinds used for fitting and, with other seeds, for testing."""


class Amounts(NamedTuple):
    """Numbers of images for fitting and testing.

    Attributes:
        hands: Upright radiographs of the training split.
        turned: More radiographs of the training split, rotated by any angle.
        phantoms: Phantoms.
        others: Images without a hand, per kind.
        spoiled: Cropped hands; also the number of pairs of hands.
        ladder: Radiographs per degree of degradation.
    """

    hands: int = 3000
    turned: int = 2000
    phantoms: int = 500
    others: int = 200
    spoiled: int = 1200
    ladder: int = 300


def qualify_file(
    checkpoint: Path | None,
    data: Path,
    out: Path,
    amounts: Amounts = Amounts(),  # noqa: B008  # cannot be changed
    *,
    threads: int = 1,
    on_progress: OnProgress = silent,
) -> Checkpoint:
    """Fit a checkpoint's limits and write the checkpoint with them.

    Args:
        checkpoint: The checkpoint; the shipped one when None.
        data: Its training folder.
        out: File to write, ``.safetensors``; may be the checkpoint itself.
        amounts: Numbers of images.
        threads: Threads of the backend.
        on_progress: Called after each image.

    Returns:
        The written checkpoint.

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        InputError: If ``data`` is not its training folder, or too small.
        ImageError: If an image cannot be used.
    """
    if out.suffix != ".safetensors":
        message = f"{out}: the name of a checkpoint must end in .safetensors"
        raise InputError(message)
    loaded = Checkpoint.read(SHIPPED if checkpoint is None else checkpoint)
    samples = read_samples(data)
    training = loaded.header.training
    parts = known_split(samples, training.split) if training else split(samples)
    if parts is None:
        message = (
            f"{data}: not the training folder of {loaded.path.name}; the limits are fitted on its "
            "training and validation splits"
        )
        raise InputError(message)
    with as_bundle(loaded.with_header(quality=None)) as bundle, Runtime(bundle, threads) as runtime:
        limits = learn_quality(runtime, parts, loaded.header.mean_months, amounts, on_progress)
    return loaded.with_header(quality=limits).write(out)


def learn_quality(
    runtime: Runtime,
    parts: Split,
    mean_months: float,
    amounts: Amounts = Amounts(),  # noqa: B008  # cannot be changed
    on_progress: OnProgress = silent,
) -> QualityLimits:
    """Fit a model's limits on its training and validation splits; test them on the test split.

    Args:
        runtime: An open float32 bundle of the checkpoint, with a localizer.
        parts: The model's splits.
        mean_months: Mean age of its training split.
        amounts: Numbers of images.
        on_progress: Called after each image.

    Raises:
        InputError: If a split has too few images, or the model does not localize hands.
        ImageError: If an image cannot be used.
    """
    if not runtime.bundle.manifest.preprocessing.localize:
        message = f"{runtime.bundle.name}: trained with --no-localize; quality limits need a hand"
        raise InputError(message)
    small = next((name for name in parts._fields if len(getattr(parts, name)) < LEAST), None)
    if small is not None:
        message = f"the {small} split has fewer than {LEAST} images; add images"
        raise InputError(message)
    eye = Eye(runtime, mean_months, on_progress)
    train, validation = parts.train, parts.validation
    apart = train[amounts.hands + amounts.turned :] or train
    upright = eye.look("hands", streams.varied(train[: amounts.hands], eye.find))
    more = train[amounts.hands :][: amounts.turned]
    hands = upright + eye.look("hands", streams.turned(more, any_angle))
    hands += eye.look("hands", streams.phantoms(amounts.phantoms))
    turned = eye.look("turned", streams.turned(apart[: amounts.spoiled], far_from_upright))
    others = eye.look("no hand", streams.no_hands(LEARNED, amounts.others, 0, vary=True))
    cut = eye.look("cropped", streams.cropped_hands(apart[: amounts.spoiled], eye.find, vary=True))
    good = _vectors(hands)
    kinds = {
        "not_a_hand": (good, _vectors(others)),
        "cut_off": (good, _vectors(cut)),
        "turned": (_vectors(upright), _vectors(turned)),
    }
    model = fit_hands(good, kinds)
    eye.scorer = HandScorer(model)
    pairs = eye.look("two hands", streams.two_hands(apart[: amounts.spoiled]))
    plain = eye.look("validation", streams.radiographs(validation), thorough=True)
    without = eye.look("validation", streams.varied(validation[::4], eye.find))
    bad = {"others": others, "cut": cut, "pairs": pairs, "turned": turned}
    chosen = _choose(eye, plain, plain + without, bad)
    ladder = validation[: amounts.ladder]
    for measure, code, worse in _LADDERS:
        base = eye.error("degrees", streams.radiographs(ladder))[0]
        rungs = []
        for degree in streams.SPOILING[measure][1]:
            months, middle = eye.error(
                "degrees", streams.spoiled(ladder, eye.find, measure, degree), measure
            )
            rungs.append(Rung(middle, months - base))
        values = np.array([item.measures[measure] for item in plain if item.measures])
        chosen.append(from_ladder(measure, code, worse, rungs, values))
    chosen += trained_ages(np.array([sample.age_months for sample in train]))
    return _measured(eye, chosen, model, mean_months, parts.test, amounts)


_LADDERS: tuple[tuple[str, str, Literal["above", "below"]], ...] = (
    ("side_pixels", "too_small", "below"),
    ("grey_levels", "low_contrast", "below"),
    ("saturated", "saturated", "above"),
)


def _choose(
    eye: Eye, good: Sequence[Looked], varied: Sequence[Looked], bad: dict[str, list[Looked]]
) -> list[Chosen]:
    """Set the limits that detect images without a usable hand, and unreliable predictions."""
    scores = {name: [eye.measures(item) for item in items] for name, items in bad.items()}
    fine = [eye.measures(item) for item in varied]
    plain = [eye.measures(item) for item in good]

    def of(items: Sequence[dict[str, float]], name: str) -> Floats:
        return np.array([item[name] for item in items if name in item])

    chosen = [
        between(measure, code, of(fine, measure), of(scores[name], measure))
        for measure, code, name in (
            ("not_a_hand", "not_a_hand", "others"),
            ("cut_off", "hand_cut_off", "cut"),
            ("turned", "turned", "turned"),
            ("second", "two_hands", "pairs"),
        )
    ]
    return chosen + [
        rare(measure, code, of(plain, measure), worse, review=review, reject=reject)
        for measure, code, worse, review, reject in _RARE
    ]


_RARE: tuple[tuple[str, str, Literal["above", "below"], float | None, float | None], ...] = (
    ("agreement", "methods_disagree", "below", 0.005, None),
    ("from_mean_months", "collapsed_to_mean", "below", None, 0.001),
    ("from_blank_months", "collapsed_to_mean", "below", None, 0.001),
    ("spread_months", "unstable", "above", 0.02, None),
)
"""Measure, reason code, worse side, and the shares of good radiographs to review and reject."""


def _measured(
    eye: Eye,
    chosen: Sequence[Chosen],
    model: HandModel,
    mean_months: float,
    test: Sequence[Sample],
    amounts: Amounts,
) -> QualityLimits:
    """Measure false alarms and detection rates on the test split and on held-out kinds."""
    worst = {
        measure: next((c.reject for c in chosen if c.measure == measure and c.reject), None)
        for measure in streams.SPOILING
    }
    met = {kind: [kind] for kind in MET} | {kind: [kind] for kind in _PLAIN}
    pictures: dict[str, Iterable[Shown]] = {
        kind: streams.no_hands(kinds, amounts.others // 2, MET_SEEDS, vary=False)
        for kind, kinds in met.items()
    }
    pictures["cropped"] = streams.cropped_hands(test[: amounts.spoiled], eye.find, vary=False)
    for turn in TURNS:
        name = f"turned by {turn:g} degrees"
        pictures[name] = streams.turned(test[: amounts.ladder], exactly(turn))
    pictures["two hands"] = streams.two_hands(test[: amounts.spoiled])
    for measure, (_, degrees) in streams.SPOILING.items():
        if worst[measure] is not None:
            pictures[f"{measure} {degrees[-1]:g}"] = streams.spoiled(
                test[: amounts.ladder], eye.find, measure, degrees[-1]
            )
    plain = [eye.measures(i) for i in eye.look("test", streams.radiographs(test), thorough=True)]
    seen = {
        kind: [eye.measures(item) for item in eye.look("spoiled", stream, thorough=True)]
        for kind, stream in pictures.items()
    }
    limits = []
    for choice in chosen:
        bare = Limit(*choice, Rate(0, 0, 0))
        caught = {kind: _rate([bare], items, lost="accept") for kind, items in seen.items()}
        limits.append(
            Limit(
                *choice,
                _rate([bare], plain, lost="accept"),
                {k: r for k, r in caught.items() if r.rejected + r.reviewed},
            )
        )
    return QualityLimits(
        limits=tuple(limits),
        hands=model,
        mean_months=mean_months,
        good=_rate(limits, plain, lost="reject"),
        caught={kind: _rate(limits, items, lost="reject") for kind, items in seen.items()},
        data=(
            f"measured on the {len(test)} radiographs of the test part, on spoiled ones made of "
            "them, and on kinds of pictures that were not learned from"
        ),
    )


def _rate(limits: Sequence[Limit], items: Sequence[dict[str, float]], lost: Status) -> Rate:
    """Count the statuses; images without measures, where no hand was found, count as ``lost``."""
    said = []
    for item in items:
        words = {limit.status(item[limit.measure]) for limit in limits if limit.measure in item}
        words |= set() if item else {lost}
        said.append("reject" if "reject" in words else "review" if "review" in words else "accept")
    return Rate(len(said), said.count("reject"), said.count("review"))


def _vectors(items: Iterable[Looked]) -> Floats:
    return np.array([item.vector for item in items if item.vector is not None])
