"""The state of one phone's run: access, plan, and the measurements so far."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

from bakit.bench.phone.messages import Ages, Alive, Done, Failed, GoldenAnswers, Latency, Loaded
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.bench.phone.messages import Browser, Plan, Post
    from bakit.types import OnProgress

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Letters of a token, without similar ones."""
TOKEN_LENGTH = 14
"""Length of the token: 69 bits, and short enough to type."""


IN_USE = "in use by another browser: an address works in only one browser"


class RefusedError(InputError):
    """A client's request is refused with this HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class BundleNumbers:
    """The posted measurements of one bundle; ``runs_per_sample`` is the maximum."""

    loaded: Loaded | None = None
    golden: GoldenAnswers | None = None
    localize_ms: list[float] = field(default_factory=list)
    regress_ms: list[float] = field(default_factory=list)
    runs_per_sample: int = 1
    ages_months: list[float] = field(default_factory=list)


class Session:
    """The state of one run, shared by the server's threads."""

    def __init__(
        self, plan: Plan, on_progress: OnProgress = lambda step, done, total: None
    ) -> None:
        self.token = "".join(secrets.choice(_LETTERS) for _ in range(TOKEN_LENGTH))
        self.browser: Browser | None = None
        self.problem: str | None = None
        self.numbers = [BundleNumbers() for _ in plan.bundles]
        self._plan = plan
        self._on_progress = on_progress
        self._secret: str | None = None
        self._run = 0
        self._sequence = 0
        self._heard = time.monotonic()
        self._state: Literal["waiting", "running", "done", "failed"] = "waiting"
        self._changed = threading.Condition()

    def admit(self, token: str, secret: str | None) -> None:
        """Check the client's token and, after a start, its cookie.

        Raises:
            RefusedError: If the token is wrong (404) or another browser has started (409).
        """
        if not secrets.compare_digest(token.encode(), self.token.encode()):
            raise RefusedError(404, "not found: the address has no valid token")
        with self._changed:
            known = self._secret
        if known is not None and not secrets.compare_digest(
            (secret or "").encode(), known.encode()
        ):
            raise RefusedError(409, IN_USE)

    def start(self, browser: Browser, secret: str | None) -> tuple[Plan, str]:
        """Start the run, or start it again if the same browser reloaded the page.

        Returns:
            The plan, and the cookie that the browser must send from now on.

        Raises:
            RefusedError: If another browser has started, or the run is over (409).
        """
        with self._changed:
            if self._secret is None:
                self._secret = secrets.token_urlsafe(24)
            elif secret != self._secret:  # admitted before the other browser started
                raise RefusedError(409, IN_USE)
            if self._state in {"done", "failed"}:
                raise RefusedError(409, "this run is over; start bakit bench --phone again")
            self._run += 1
            self._sequence = 0
            self._state = "running"
            self.browser = browser
            self.numbers = [BundleNumbers() for _ in self._plan.bundles]
            self._heard = time.monotonic()
            self._changed.notify_all()
            return msgspec.structs.replace(self._plan, run=self._run), self._secret

    def receive(self, post: Post) -> None:
        """Store a message; repeated messages are ignored.

        Raises:
            RefusedError: If the message belongs to another start, a message before it is missing
                (409), or it does not match the plan (400).
        """
        with self._changed:
            if self._state != "running" or post.run != self._run:
                raise RefusedError(409, "this page's run is over: another page was started")
            if post.sequence > self._sequence:
                raise RefusedError(409, f"message {self._sequence} is missing")
            self._heard = time.monotonic()
            if post.sequence < self._sequence:
                return  # the response was lost, so the page sent the message again
            self._take(post)
            self._sequence += 1
            self._changed.notify_all()

    def _take(self, post: Post) -> None:
        message = post.message
        if isinstance(message, Alive):
            return
        if isinstance(message, Failed):
            self._state, self.problem = "failed", message.message
            return
        if isinstance(message, Done):
            missing = self._missing()
            if missing:
                raise RefusedError(400, f"incomplete: {missing} missing")
            self._state = "done"
            return
        if message.bundle >= len(self.numbers):
            raise RefusedError(400, f"unknown bundle {message.bundle}")
        numbers, plan = self.numbers[message.bundle], self._plan.bundles[message.bundle]
        if isinstance(message, Loaded):
            numbers.loaded = message
            self._tell("load", lambda n: float(n.loaded is not None))
        elif isinstance(message, GoldenAnswers):
            counts = {len(message.ages_months), len(message.localizer_difference)}
            if counts != {len(plan.golden_months)}:
                raise RefusedError(400, "the numbers of golden predictions and images differ")
            numbers.golden = message
        elif isinstance(message, Latency):
            self._take_latency(numbers, message)
        else:
            self._take_ages(numbers, message)

    def _take_latency(self, numbers: BundleNumbers, message: Latency) -> None:
        if len(message.localize_ms) != len(message.regress_ms) or numbers.loaded is None:
            raise RefusedError(400, "the numbers of localizer and regressor times differ")
        if len(numbers.localize_ms) + len(message.localize_ms) > self._plan.max_queries:
            raise RefusedError(400, f"more than {self._plan.max_queries} times")
        numbers.localize_ms += message.localize_ms
        numbers.regress_ms += message.regress_ms
        numbers.runs_per_sample = max(numbers.runs_per_sample, message.runs_per_sample)
        self._tell("latency", self._latency_share)

    def _take_ages(self, numbers: BundleNumbers, message: Ages) -> None:
        images = len(self._plan.drift_male)
        if message.start != len(numbers.ages_months):
            raise RefusedError(400, f"expected ages from image {len(numbers.ages_months)} on")
        if message.start + len(message.ages_months) > images:
            raise RefusedError(400, f"more than {images} ages")
        numbers.ages_months += message.ages_months
        self._tell("drift", lambda n: len(n.ages_months) / images)

    def _latency_share(self, numbers: BundleNumbers) -> float:
        """Return a bundle's progress to the minimum queries and duration, as the page does."""
        count, plan = len(numbers.localize_ms), self._plan
        seconds = sum(numbers.localize_ms + numbers.regress_ms) * numbers.runs_per_sample / 1000
        duration = seconds / plan.min_duration_s if plan.min_duration_s else 1.0
        return min(max(min(count / plan.min_queries, duration), count / plan.max_queries), 1.0)

    def _tell(self, step: str, share_of: Callable[[BundleNumbers], float]) -> None:
        """Report the mean share of all bundles."""
        share = sum(map(share_of, self.numbers)) / len(self.numbers)
        self._on_progress(step, share, 1.0)

    def _missing(self) -> str:
        """Return a description of missing measurements; empty if the run is complete."""
        for numbers in self.numbers:
            if numbers.golden is None:
                return "golden predictions"
            if len(numbers.localize_ms) < self._plan.min_queries:
                return "times"
            if len(numbers.ages_months) < len(self._plan.drift_male):
                return "ages of images"
        return ""

    def wait(self, wait_s: float, idle_s: float) -> None:
        """Wait until the run is over; sets ``problem`` if it did not finish.

        The timeout is ``wait_s`` until the start, then ``idle_s`` between messages.
        """
        with self._changed:
            self._heard = time.monotonic()
            while self._state in {"waiting", "running"}:
                limit = wait_s if self._state == "waiting" else idle_s
                left = self._heard + limit - time.monotonic()
                if left <= 0:
                    self.problem = (
                        f"no browser pressed Start within {wait_s:g} s"
                        if self._state == "waiting"
                        else f"no message from the phone for {idle_s:g} s"
                    )
                    self._state = "failed"
                    return
                # Short steps, because Ctrl-C does not interrupt a long wait on Windows.
                self._changed.wait(min(left, 0.5))

    def stop(self, problem: str) -> None:
        """End the run."""
        with self._changed:
            if self._state in {"waiting", "running"}:
                self._state, self.problem = "failed", problem
