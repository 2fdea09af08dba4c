"""Fit the quality limits (accept, review, reject) and test them on held-out images."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from bakit.data.labels import LEAST_IMAGES, read_samples
from bakit.data.splits import known_split, split
from bakit.errors import InputError
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.phantoms.decoys import LEARNED, MET
from bakit.quality.limits import STATUSES, Limit, QualityLimits, Rate
from bakit.runtime import Runtime
from bakit.studies.evaluate.run import as_bundle
from bakit.studies.quality import streams
from bakit.studies.quality.changes import PARTS, any_angle, exactly, tilt
from bakit.studies.quality.fit import (
    FALSE_REJECTS,
    Rung,
    between,
    ends_of_scale,
    expected_rise,
    fit_detectors,
    from_ladder,
    rare,
)
from bakit.studies.quality.measure import Eye
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from bakit.data.labels import Sample
    from bakit.data.splits import Split
    from bakit.quality.limits import Status
    from bakit.studies.quality.measure import Looked
    from bakit.studies.quality.streams import Shown
    from bakit.types import Floats, OnProgress

    Rows = Sequence[Mapping[str, float]]


MET_SEEDS = 100_000
"""First seed of the held-out images without a hand."""

TURNS = (45.0, 90.0, 180.0, 270.0)
"""Rotations, in degrees, that the limits are tested on: the first is tilted, others are read."""

_PLAIN = ("noise", "nearly blank")
"""Kinds used for fitting and, with other seeds, for testing."""


class Amounts(NamedTuple):
    """Numbers of images for fitting and testing.

    Attributes:
        hands: Upright radiographs of the training split.
        framed: More radiographs of the training split, framed or cut close to the hand.
        turned: More radiographs of the training split, rotated by any angle.
        phantoms: Phantoms.
        others: Images without a hand, per kind.
        spoiled: Cut hands, per part; also the number of pairs of hands and of tilted ones.
        ladder: Radiographs per degree of degradation, and for the spread of the age.
        validation: Radiographs of the validation split that limits are set on, and as many that
            are left of the training split.
    """

    hands: int = 1200
    framed: int = 600
    turned: int = 400
    phantoms: int = 200
    others: int = 80
    spoiled: int = 350
    ladder: int = 60
    validation: int = 2400


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
    if not loaded.header.preprocessing.localize:
        message = f"{loaded.path}: trained with --no-localize; quality limits need a hand"
        raise InputError(message)
    small = next((name for name in parts._fields if len(getattr(parts, name)) < LEAST_IMAGES), None)
    if small is not None:
        message = f"the {small} split has fewer than {LEAST_IMAGES} images; add images"
        raise InputError(message)
    with as_bundle(loaded.with_header(quality=None)) as bundle, Runtime(bundle, threads) as runtime:
        eye = Eye(runtime, loaded.header.mean_months, on_progress)
        return loaded.with_header(quality=_learn(eye, parts, amounts)).write(out)


def _learn(eye: Eye, parts: Split, amounts: Amounts) -> QualityLimits:
    """Fit limits on the training and validation splits, test them on the test split."""
    train, validation = parts.train, parts.validation[: amounts.validation]
    rest = iter(train)

    def some(count: int) -> list[Sample]:
        """Return the next training samples, or the first again in a small folder."""
        return list(islice(rest, count)) or list(train[:count])

    bare = partial(eye.look, ages=False)
    upright = bare("hands", streams.varied(some(amounts.hands), eye.prepare))
    upright += bare("hands", streams.framed_hands(some(amounts.framed), eye.prepare, vary=True))
    hands = upright + bare("hands", streams.turned(some(amounts.turned), any_angle))
    hands += bare("hands", streams.phantoms(amounts.phantoms))
    bad = {
        "turned": bare("tilted", streams.turned(some(amounts.spoiled), tilt)),
        "not_a_hand": bare("no hand", streams.no_hands(LEARNED, amounts.others, 0, vary=True)),
    }
    for name, part in PARTS.items():
        cut = streams.cut_hands(some(amounts.spoiled), eye.prepare, name, vary=True)
        bad[part.measure] = bad.get(part.measure, []) + bare("cut", cut)
    vectors = _vectors(hands)
    kinds = {name: (vectors, _vectors(items)) for name, items in bad.items()}
    kinds["turned"] = (_vectors(upright), kinds["turned"][1])
    eye.detectors = fit_detectors(kinds)
    bad["second"] = bare("two hands", streams.two_hands(some(amounts.spoiled)))
    few = amounts.ladder
    plain = eye.look("spread", streams.radiographs(validation[:few]), thorough=True)
    plain += eye.look("validation", streams.radiographs(validation[few:]))
    good = plain + bare("training", streams.radiographs(islice(rest, amounts.validation)))
    framed = streams.framed_hands(validation[::3], eye.prepare, vary=False)
    varied = bare("validation", streams.varied(validation[1::3], eye.prepare))
    varied += good + bare("validation", framed)
    pairs = [(s, i.measures) for s, i in zip(validation, plain, strict=True) if i.measures]
    predicted, true = np.array([(row["age_months"], s.age_months) for s, row in pairs]).T
    rungs = _rungs(eye, pairs[:few], float(np.abs(predicted - true).mean()))
    ends = ends_of_scale(np.array([sample.age_months for sample in train]), predicted, true)
    seen: dict[str, list[Looked]] = {"good": good, "varied": varied, **bad}
    rows = {name: [eye.measures(item) for item in items] for name, items in seen.items()}
    chosen = _together(rows["good"], lambda share: [*_choose(rows, list(bad), rungs, share), *ends])
    return _measured(eye, chosen, parts.test, amounts)


def _rungs(
    eye: Eye, pairs: Sequence[tuple[Sample, Mapping[str, float]]], error_months: float
) -> dict[str, list[Rung]]:
    """Degrade radiographs with a hand step by step; return the effect of each measure's steps."""
    samples = [sample for sample, _ in pairs]
    rungs: dict[str, list[Rung]] = {measure: [] for measure in streams.LADDERS}
    for measure, ladder in streams.LADDERS.items():
        for degree in ladder.degrees:
            after = eye.look("degrees", streams.spoiled(samples, eye.prepare, measure, degree))
            found = [
                (abs(now.measures["age_months"] - before["age_months"]), now.measures[measure])
                for (_, before), now in zip(pairs, after, strict=True)
                if now.measures
            ] or [(np.inf, np.nan)]
            change, middle = np.mean(found, 0)[0], np.median(found, 0)[1]
            rungs[measure].append(Rung(float(middle), expected_rise(error_months, float(change))))
    return rungs


def _together(good: Rows, choose: Callable[[float], list[Limit]]) -> list[Limit]:
    """Return the limits that together reject at most ``FALSE_REJECTS`` of good radiographs.

    ``choose`` returns limits of which each rejects about that share alone. A bar on each reason
    would let the sum grow with every reason.
    """
    most = int(FALSE_REJECTS * len(good))
    limits = []
    for alone in range(most, -1, -1):
        limits = choose(alone / len(good))
        if _rate(limits, good, lost="reject").rejected <= most:
            break
    return limits


def _choose(
    rows: Mapping[str, Rows], bad: Sequence[str], rungs: Mapping[str, list[Rung]], share: float
) -> list[Limit]:
    """Set the limits of unusable images and unreliable predictions.

    ``rows`` has the measures of good and varied radiographs and, by detector, of ``bad`` images;
    each limit rejects up to a ``share`` of the good ones.
    """

    def of(kind: str, measure: str) -> Floats:
        return np.array([row[measure] for row in rows[kind] if measure in row])

    codes = {measure: _CODES.get(measure, measure) for measure in bad}
    sharing = Counter(codes.values())
    chosen = []
    for measure, code in codes.items():
        good, varied = of("good", measure), of("varied", measure)
        chosen.append(
            between(measure, code, good, varied, of(measure, measure), share, sharing[code])
        )
    chosen += [
        from_ladder(name, ladder.code, ladder.worse, rungs[name], of("good", name), share)
        for name, ladder in streams.LADDERS.items()
    ]
    return [
        *chosen,
        Limit("from_mean_months", "collapsed_to_mean", "below", None, COLLAPSED_MONTHS),
        Limit("from_blank_months", "collapsed_to_mean", "below", None, COLLAPSED_MONTHS),
        rare("agreement", "methods_disagree", of("good", "agreement"), "below", 0.005),
        rare("spread_months", "unstable", of("good", "spread_months"), "above", 0.02),
    ]


_CODES = {part.measure: "hand_cut_off" for part in PARTS.values()} | {"second": "two_hands"}

COLLAPSED_MONTHS = 0.05
"""Distance from the age without an image below which the age ignores the image."""


def _measured(
    eye: Eye, chosen: Sequence[Limit], test: Sequence[Sample], amounts: Amounts
) -> QualityLimits:
    """Measure false alarms and detection rates on the test split and on held-out kinds."""
    pictures: dict[str, Iterable[Shown]] = {
        kind: streams.no_hands([kind], amounts.others // 2, MET_SEEDS, vary=False)
        for kind in (*MET, *_PLAIN)
    }
    for part in PARTS:
        cut = streams.cut_hands(test[: amounts.spoiled // 2], eye.prepare, part, vary=False)
        pictures[f"cut off: {part}"] = cut
    pictures["framed, whole"] = streams.framed_hands(
        test[: amounts.spoiled // 2], eye.prepare, vary=False
    )
    for turn in TURNS:
        name = f"turned by {turn:g} degrees"
        pictures[name] = streams.turned(test[: amounts.ladder], exactly(turn))
    pictures["two hands"] = streams.two_hands(test[: amounts.spoiled // 2])
    for choice in chosen:
        if choice.reject is not None and (ladder := streams.LADDERS.get(choice.measure)):
            pictures[f"{choice.measure} {ladder.degrees[-1]:g}"] = streams.spoiled(
                test[: amounts.ladder], eye.prepare, choice.measure, ladder.degrees[-1]
            )
    plain = [eye.measures(item) for item in eye.look("test", streams.radiographs(test))]
    seen = {
        kind: [eye.measures(item) for item in eye.look("spoiled", stream)]
        for kind, stream in pictures.items()
    }
    limits = []
    for choice in chosen:
        caught = {kind: _rate([choice], items, lost="accept") for kind, items in seen.items()}
        limits.append(
            msgspec.structs.replace(
                choice,
                good=_rate([choice], plain, lost="accept"),
                caught={k: r for k, r in caught.items() if r.rejected + r.reviewed},
            )
        )
    return QualityLimits(
        limits=tuple(limits),
        mean_months=eye.mean_months,
        good=_rate(limits, plain, lost="reject"),
        caught={kind: _rate(limits, items, lost="reject") for kind, items in seen.items()},
        data=(
            f"measured on the {len(test)} radiographs of the test part, on spoiled ones made of "
            "them, and on kinds of pictures that were not learned from"
        ),
        detectors=eye.detectors,
    )


def _rate(limits: Sequence[Limit], items: Rows, lost: Status) -> Rate:
    """Count the statuses; images without measures, where no hand was found, count as ``lost``."""
    found = []
    for item in items:
        statuses = [limit.status(item[limit.measure]) for limit in limits if limit.measure in item]
        found.append(max(statuses, key=STATUSES.index, default="accept") if item else lost)
    return Rate(len(found), found.count("reject"), found.count("review"))


def _vectors(items: Iterable[Looked]) -> Floats:
    return np.array([item.vector for item in items if item.vector is not None])
