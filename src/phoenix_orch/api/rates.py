"""How often one may ask, and how often one may fail to say who one is."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from phoenix_orch.kernel.errors import TooMany
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.security.buckets import Buckets, Rate
from phoenix_orch.security.rights import Kind, Principal

BURST = 5.0
"""Seconds' worth of requests that may come at once."""
FAILURES = Rate(burst=10, per_second=0.2)
"""Of one address, with tokens, codes and cookies that let nobody in."""


class Rates:
    """For one event loop. Users of this machine, over the unix socket, are not counted.

    Changes are counted apart from reads: whoever looks too often may still abort.
    """

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        rate = Rate(burst=per_second * BURST, per_second=per_second)
        self._read, self._changed = Buckets(rate), Buckets(rate)
        self._failed = Buckets(FAILURES)

    def asked(self, principal: Principal, *, changes: bool) -> None:
        """Raises TooMany."""
        if principal.kind is not Kind.USER:
            asked = self._changed if changes else self._read
            _wait(asked.take(principal.key, self._clock()), f"{principal.name} asks too often")

    def failed(self, address: str) -> None:
        """Somebody there showed what lets nobody in. Raises TooMany, in place of the reason."""
        _wait(self._failed.take(address, self._clock()), "too many logins failed from this address")

    def may_try(self, address: str) -> None:
        """For what costs more than looking into a table. Raises TooMany."""
        _wait(self._failed.wait(address, self._clock()), "too many logins failed from this address")


def _wait(seconds: float, message: str) -> None:
    if seconds > 0:
        shown = format_duration(timedelta(seconds=max(1, round(seconds))))
        raise TooMany(message, remedy=f"come back in {shown}", retry_after=seconds)
