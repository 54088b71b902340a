"""How many requests a route takes: a token bucket, as API Gateway has it.  (pure)"""

from __future__ import annotations


class TokenBucket:
    """``rate`` requests a second in the long run, and up to ``burst`` at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """Tell whether a request that comes now is let in."""
        if self._at is not None:
            self._tokens = min(self._tokens + max(now - self._at, 0.0) * self._rate, float(self._burst))
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
