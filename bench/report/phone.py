"""What a report says of the phone that ran the models; imports no numpy."""

from __future__ import annotations

import msgspec

PHANTOMS = "generated phantoms"
"""Stands for a folder where the drift set was made for the run."""


class Phone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The browser in which ``bakit bench --phone`` ran the two networks.

    The report's ``host`` is then the machine that served the page, prepared the images and ran
    the float reference of the drift.

    Attributes:
        device: Model and system, as far as the browser tells.
        browser: Name and version.
        user_agent: What the browser calls itself.
        provider: ``wasm``, ``webgpu`` or ``webnn``.
        threads: Threads of the WASM part; fixed for one page.
        logical_cores: Logical cores, as far as the browser tells.
        isolated: Whether the page was cross-origin isolated: without it there are no threads and
            clocks are coarse.
        timer_step_ms: Smallest step of the browser's clock.
        runs_per_sample: Runs in one time, the most of any model: more than 1 where the clock is
            too coarse for one run. Percentiles are then those of means.
        runtime: Library and its version.
        golden_max_difference_months: By bundle, the largest difference of a golden image's age
            from the bundle's own at its export.
        golden_max_difference_localizer: By bundle, the largest difference of a pixel of the
            localizer's map from this machine's; of labels, the share that differs.
        problem: Why the run ended early, which makes the report partial; None if it did not.
    """

    device: str
    browser: str
    user_agent: str
    provider: str
    threads: int
    logical_cores: int | None
    isolated: bool
    timer_step_ms: float
    runs_per_sample: int
    runtime: str
    golden_max_difference_months: dict[str, float]
    golden_max_difference_localizer: dict[str, float]
    problem: str | None = None

    @property
    def summary(self) -> str:
        """What ran the models, in words."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.device}; {self.browser}; {self.runtime}, {self.provider}, {threads}"

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """What must be equal before two reports' times are compared.

        Versions of browser and library are not in it: they are what one may want to compare.
        """
        return self.device, self.logical_cores, self.provider, self.browser.split(" ")[0]
