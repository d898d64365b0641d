"""How often somebody may ask: reads and changes each for themselves."""

from __future__ import annotations

import pytest

from phoenix_orch.api.rates import BURST, FAILURES, Rates
from phoenix_orch.kernel.errors import TooMany
from phoenix_orch.security.rights import Kind, Principal

CI, OWNER = Principal("ci", Kind.TOKEN), Principal("ida", Kind.USER)


class Setting:
    def __init__(self) -> None:
        self.now = 0.0
        self.rates = Rates(2, clock=lambda: self.now)

    def exhaust(self, principal: Principal, *, changes: bool) -> int:
        """How often one may until one has to wait."""
        for count in range(1000):
            try:
                self.rates.asked(principal, changes=changes)
            except TooMany:
                return count
        return 1000


def test_so_many_at_once_and_so_many_a_second() -> None:
    setting = Setting()
    assert setting.exhaust(CI, changes=False) == 2 * BURST
    setting.now = 3.0
    assert setting.exhaust(CI, changes=False) == 6


def test_who_reads_too_often_may_still_abort() -> None:
    setting = Setting()
    setting.exhaust(CI, changes=False)
    setting.rates.asked(CI, changes=True)
    assert setting.exhaust(CI, changes=True) == 2 * BURST - 1


def test_one_does_not_wait_for_another() -> None:
    setting = Setting()
    setting.exhaust(CI, changes=False)
    assert setting.exhaust(Principal("cd", Kind.TOKEN), changes=False) == 2 * BURST
    assert setting.exhaust(OWNER, changes=True) == 1000  # over the unix socket nobody is counted


def test_failed_logins_are_limited_by_address() -> None:
    setting = Setting()
    for _ in range(int(FAILURES.burst)):
        setting.rates.failed("10.0.0.9")
    with pytest.raises(TooMany) as caught:
        setting.rates.failed("10.0.0.9")
    assert caught.value.retry_after == pytest.approx(1 / FAILURES.per_second)
    with pytest.raises(TooMany):
        setting.rates.may_try("10.0.0.9")
    setting.rates.may_try("10.0.0.8")
