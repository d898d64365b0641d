"""When the log of deleted Rollouts is swept."""

from __future__ import annotations

from collections.abc import Collection

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.orchestrator.cluster.swept import Swept


class Log:
    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []
        self.away = False

    async def sweep(self, uids: Collection[str]) -> tuple[str, ...]:
        self.asked.append(frozenset(uids))
        if self.away:
            raise Retryable("the log is away")
        return ()


async def test_once_in_a_term_and_whenever_one_went() -> None:
    log = Log()
    swept = Swept(log)
    one, both = frozenset({"1"}), frozenset({"1", "2"})
    for uids in (both, both, one, one, both, both):
        await swept.look(uids)
    assert log.asked == [both, one]


async def test_what_fails_is_tried_again() -> None:
    log = Log()
    swept = Swept(log)
    log.away = True
    await swept.look(frozenset({"1"}))
    await swept.look(frozenset({"1"}))
    log.away = False
    await swept.look(frozenset({"1"}))
    await swept.look(frozenset({"1"}))
    assert len(log.asked) == 3
