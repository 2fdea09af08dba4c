"""Learn what is accepted, reviewed and rejected, and measure it on images that taught nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bakit.errors import InputError
from bakit.quality.limits import HandScorer, Limit, QualityLimits, Rate
from bakit.studies.quality import streams
from bakit.studies.quality.decoys import LEARNED, MET
from bakit.studies.quality.fit import fit_hands
from bakit.studies.quality.limits import Rung, between, from_ladder, rare, trained_ages
from bakit.studies.quality.measure import look_at
from bakit.studies.quality.vary import any_angle, exactly, far_from_upright

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bakit.data.labels import Sample, Split
    from bakit.hand.found import LocalizerOutput
    from bakit.image.box import Box
    from bakit.quality.limits import HandModel, Status
    from bakit.runtime import Runtime
    from bakit.studies.quality.limits import Chosen
    from bakit.studies.quality.measure import Looked
    from bakit.studies.quality.streams import Shown
    from bakit.types import Floats, Grey


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


def learn_quality(
    runtime: Runtime,
    parts: Split,
    mean_months: float,
    amounts: Amounts = Amounts(),  # noqa: B008  # cannot be changed
    on_step: Callable[[str, int], None] = lambda *_: None,
) -> QualityLimits:
    """Learn a model's limits on its training and validation parts, measure them on the test part.

    Args:
        runtime: A float32 bundle of the checkpoint, open; one that looks for the hand.
        parts: The parts that the model was trained on.
        mean_months: Mean age of its training set.
        amounts: How many pictures.
        on_step: Called with a step's name and the pictures done since the last call.

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
    eye = _Eye(runtime, mean_months, on_step)
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
    eye: _Eye,
    good: Sequence[Looked],
    varied: Sequence[Looked],
    bad: dict[str, list[Looked]],
) -> list[Chosen]:
    """Set the limits that tell hands from other things, and the model's answers from guesses."""
    scores = {name: [eye.measures(item) for item in items] for name, items in bad.items()}
    fine = [eye.measures(item) for item in varied]
    plain = [eye.measures(item) for item in good]

    def of(items: Sequence[dict[str, float]], name: str) -> Floats:
        return np.array([item[name] for item in items if name in item])

    return [
        between(
            "not_a_hand", "not_a_hand", of(fine, "not_a_hand"), of(scores["others"], "not_a_hand")
        ),
        between("cut_off", "hand_cut_off", of(fine, "cut_off"), of(scores["cut"], "cut_off")),
        between("turned", "turned", of(fine, "turned"), of(scores["turned"], "turned")),
        between("second", "two_hands", of(fine, "second"), of(scores["pairs"], "second")),
        rare("agreement", "methods_disagree", of(plain, "agreement"), "below", review=0.005),
        rare(
            "from_mean_months",
            "collapsed_to_mean",
            of(plain, "from_mean_months"),
            "below",
            reject=0.001,
        ),
        rare(
            "from_blank_months",
            "collapsed_to_mean",
            of(plain, "from_blank_months"),
            "below",
            reject=0.001,
        ),
        rare("spread_months", "unstable", of(plain, "spread_months"), "above", review=0.02),
    ]


class _Eye:
    """Looks at streams of pictures with one bundle."""

    def __init__(
        self, runtime: Runtime, mean_months: float, on_step: Callable[[str, int], None]
    ) -> None:
        self._runtime = runtime
        self._mean_months = mean_months
        self._on_step = on_step
        self.scorer: HandScorer | None = None

    def find(self, grey: Grey) -> tuple[Box, LocalizerOutput] | None:
        """Return the hand's box and what was seen, None without a hand."""
        hand = self._runtime.prepare(grey)
        return (
            None
            if hand.box is None or hand.localizer_output is None
            else (hand.box, hand.localizer_output)
        )

    def look(self, step: str, pictures: Iterable[Shown], *, thorough: bool = False) -> list[Looked]:
        """Return what is measured on each picture."""
        looked = []
        for shown in pictures:
            looked.append(
                look_at(
                    self._runtime,
                    shown.grey,
                    male=shown.male,
                    mean_months=self._mean_months,
                    thorough=thorough,
                )
            )
            self._on_step(step, 1)
        return looked

    def error(
        self, step: str, pictures: Iterable[Shown], measure: str | None = None
    ) -> tuple[float, float]:
        """Return the mean absolute error in months, and the median of a measure.

        Where no hand is found, the model has no answer and the picture no part in the error.
        """
        errors, values = [], []
        for shown in pictures:
            (item,) = self.look(step, [shown])
            if item.age_months is not None and shown.age_months is not None:
                errors.append(abs(item.age_months - shown.age_months))
                values.append(item.measures[measure] if measure else 0.0)
        if not errors:
            return float("inf"), float("nan")
        return float(np.mean(errors)), float(np.median(values))

    def measures(self, item: Looked) -> dict[str, float]:
        """Return all measures, those of the detectors included; none without a hand."""
        if item.vector is None:
            return {}
        assert self.scorer is not None
        return item.measures | self.scorer.score(item.vector)


def _measured(
    eye: _Eye,
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
