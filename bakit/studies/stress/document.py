"""What ``bakit stress`` writes, and the limits on it."""

from __future__ import annotations

import msgspec

from bakit.studies.evaluate.document import Data, Model

SCHEMA_VERSION = 1


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's errors on images that were changed in one way, and beside the untouched ones.

    Attributes:
        kind: The kind of change (``perturb.KINDS``); ``none`` for untouched images.
        name: What was done.
        samples: Images.
        mae_months: Mean absolute difference from the true age.
        mae_rise_months: By how much that is more than on the same images untouched.
        mae_rise_ci95_months: 95 % interval of the rise, paired bootstrap.
        mean_abs_change_months: Mean of how far an age moved.
        over_12_months: Share of images more than 12 months off, 0..1.
        over_24_months: Share of images more than 24 months off, 0..1.
        reviewed: Share whose quality is ``review``, 0..1.
        rejected: Share whose quality is ``reject``, 0..1; their ages count all the same.
    """

    kind: str
    name: str
    samples: int
    mae_months: float
    mae_rise_months: float
    mae_rise_ci95_months: tuple[float, float]
    mean_abs_change_months: float
    over_12_months: float
    over_24_months: float
    reviewed: float
    rejected: float


class Stress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of ``bakit stress``.

    Attributes:
        schema_version: Version of this document.
        model: What was measured.
        data: The labelled images.
        unreadable: Images that could not be used.
        untouched: Errors on the images as they are.
        conditions: Errors on the changed ones.
    """

    schema_version: int
    model: Model
    data: Data
    unreadable: int
    untouched: Condition
    conditions: tuple[Condition, ...]

    def failures(
        self, max_mae_rise_months: float | None = None, max_over_24: float | None = None
    ) -> list[str]:
        """Return what is over a limit, a line each.

        Args:
            max_mae_rise_months: Largest upper end of the rise's interval.
            max_over_24: Largest share of images more than 24 months off, 0..1.
        """
        found = []
        for condition in self.conditions:
            upper = condition.mae_rise_ci95_months[1]
            if max_mae_rise_months is not None and not upper <= max_mae_rise_months:
                found.append(
                    f"{condition.name}: MAE {condition.mae_rise_months:+.2f} months, upper end of "
                    f"its 95 % interval {upper:+.2f}, limit {max_mae_rise_months:g}"
                )
            share = condition.over_24_months
            if max_over_24 is not None and not share <= max_over_24:
                found.append(
                    f"{condition.name}: {share:.1%} of the images are more than 24 months off, "
                    f"limit {max_over_24:.1%}"
                )
        return found
