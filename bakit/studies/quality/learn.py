"""Learn what is accepted, reviewed and rejected, and measure it on images that taught nothing."""

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
"""Fewest images of a part."""

MET_SEEDS = 100_000
"""First seed of the pictures without a hand that limits are measured on."""

TURNS = (45.0, 90.0, 180.0, 270.0)
"""Degrees by which hands are turned to see whether that is noticed."""

_PLAIN = ("noise", "nearly blank")
"""Kinds that are met again, with other seeds."""


class Amounts(NamedTuple):
    """How many pictures to learn from and to measure on.

    Attributes:
        hands: Radiographs of the training part, upright.
        turned: More of them, turned by any angle.
        phantoms: Phantoms of hands.
        others: Pictures of each kind without a hand.
        spoiled: Cropped hands, and as many pairs.
        ladder: Radiographs for each degree of spoiling.
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
    """Learn a checkpoint's limits and write it again with them; its weights stay as they are.

    Args:
        checkpoint: The checkpoint; the shipped one when None.
        data: The labelled folder that it was trained on.
        out: File to write, ``.safetensors``; may be the checkpoint itself.
        amounts: How many pictures to learn from and to measure on.
        threads: Threads of the backend.
        on_progress: Called after each picture.

    Returns:
        The checkpoint as it was written.

    Raises:
        CheckpointError: If the checkpoint cannot be read.
        InputError: If ``data`` is not what it was trained on, or too small.
        ImageError: If an image cannot be used.
    """
    if out.suffix != ".safetensors":
        message = f"{out}: a checkpoint ends in .safetensors"
        raise InputError(message)
    loaded = Checkpoint.read(SHIPPED if checkpoint is None else checkpoint)
    samples = read_samples(data)
    training = loaded.header.training
    parts = known_split(samples, training.split) if training else split(samples)
    if parts is None:
        message = (
            f"{data}: not the images that {loaded.path.name} was trained on; limits are learned "
            "on its training and validation parts"
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
    """Learn a model's limits on its training and validation parts, measure them on the test part.

    Args:
        runtime: A float32 bundle of the checkpoint, open; one that looks for the hand.
        parts: The parts that the model was trained on.
        mean_months: Mean age of its training set.
        amounts: How many pictures.
        on_progress: Called after each picture.

    Raises:
        InputError: If a part has too few images, or hands are not looked for.
        ImageError: If an image cannot be used.
    """
    if not runtime.bundle.manifest.preprocessing.localize:
        message = f"{runtime.bundle.name}: does not look for the hand; there is nothing to judge"
        raise InputError(message)
    small = next((name for name in parts._fields if len(getattr(parts, name)) < LEAST), None)
    if small is not None:
        message = f"the {small} part has fewer than {LEAST} images; limits need more"
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
    """Set the limits that tell hands from other things, and answers from guesses."""
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
"""Measure, reason, worse side, and the shares of good radiographs to review and to reject."""


def _measured(
    eye: Eye,
    chosen: Sequence[Chosen],
    model: HandModel,
    mean_months: float,
    test: Sequence[Sample],
    amounts: Amounts,
) -> QualityLimits:
    """Count false alarms and catches on the test part and on kinds of pictures not met before."""
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
    """Count what limits say; pictures without measures have no hand that was found."""
    said = []
    for item in items:
        words = {limit.status(item[limit.measure]) for limit in limits if limit.measure in item}
        words |= set() if item else {lost}
        said.append("reject" if "reject" in words else "review" if "review" in words else "accept")
    return Rate(len(said), said.count("reject"), said.count("review"))


def _vectors(items: Iterable[Looked]) -> Floats:
    return np.array([item.vector for item in items if item.vector is not None])
