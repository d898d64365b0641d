"""How a contract sees that something is refused, and refused as people can use it."""

from __future__ import annotations

from collections.abc import Awaitable

from phoenix_orch.kernel.errors import PhoenixError


async def refused(what: Awaitable[object], error: type[PhoenixError]) -> None:
    """`what` raises exactly `error`, which says what is wrong and what to do."""
    raised: PhoenixError | None = None
    try:
        await what
    except PhoenixError as refusal:
        raised = refusal
    assert type(raised) is error, f"{type(raised).__name__} instead of {error.__name__}"
    assert raised.message
    assert raised.remedy
