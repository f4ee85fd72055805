"""When a request is worth another try, and after how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from voice_analytics_client.errors import (
    TEMPORARY,
    RequestTimedOut,
    ServiceError,
    ServiceUnreachable,
    VoiceAnalyticsError,
)


@dataclass(frozen=True)
class Retries:
    """Exponential backoff with full jitter (M. Brooker, "Exponential Backoff And Jitter", 2015).

    Tried again is what the service turned away before doing anything (429, 503), and what the
    network lost, if doing it twice does no harm. The service's Retry-After is never undercut.

    Args:
        attempts: how often at most, the first time included; None leaves it to `within_s`.
        within_s: how long after the first try another one may start.
        first_s: about how long to wait before the second try; then twice as long each time,
        longest_s: up to this.
        draw: a number in [0, 1).
    """

    attempts: int | None = 5
    within_s: float = 60.0
    first_s: float = 0.5
    longest_s: float = 15.0
    draw: Callable[[], float] = random.random

    def wait_s(
        self, error: VoiceAnalyticsError, *, tries: int, elapsed_s: float, is_repeatable: bool
    ) -> float | None:
        """Seconds until the next try, or None: the error is final.

        Args:
            error: what came of the last try.
            tries: how many there were.
            elapsed_s: since the first one began.
            is_repeatable: doing the request twice is as good as doing it once.
        """
        if not is_worth_it(error, is_repeatable):
            return None
        if self.attempts is not None and tries >= self.attempts:
            return None
        wait_s = self.draw() * min(self.longest_s, self.first_s * 2 ** min(tries, 32))
        if isinstance(error, ServiceError) and error.retry_after_s is not None:
            wait_s += error.retry_after_s
        return wait_s if elapsed_s + wait_s <= self.within_s else None


NEVER = Retries(attempts=1)


def is_worth_it(error: VoiceAnalyticsError, is_repeatable: bool) -> bool:
    """Whether another try may help and does no harm."""
    if isinstance(error, TEMPORARY):
        return True
    if isinstance(error, RequestTimedOut):  # the caller said how long is long enough
        return False
    if isinstance(error, ServiceUnreachable):
        return is_repeatable or not error.was_sent
    return False
