"""Streams of one replica end with what let them in, also where that was ended at another replica.

A look at the store every second tells what is left of the sessions and tokens that have streams here: two
questions, however many viewers there are. While the store is away nothing ends by it.
"""

from __future__ import annotations

import asyncio

import structlog

from phoenix_orch.api.cluster_people import People
from phoenix_orch.api.leases import Leases
from phoenix_orch.orchestrator.cluster.sessions import SharedSessions
from phoenix_orch.orchestrator.cluster.tokens import SharedTokens
from phoenix_orch.runtime.faults import Faults

LOOK = 1.0
"""Seconds between two looks."""
_SESSION, _TOKEN = "session:", "token:"


class EndedElsewhere:
    """`run` until cancelled."""

    def __init__(
        self, leases: Leases, sessions: SharedSessions, people: People, tokens: SharedTokens
    ) -> None:
        self._leases = leases
        self._sessions = sessions
        self._people = people
        self._tokens = tokens
        self._faults = Faults(structlog.get_logger("phoenix.api"))

    async def run(self) -> None:
        while True:
            await self._faults.guard(self.look(), "streams")
            await asyncio.sleep(LOOK)

    async def look(self) -> bool:
        """End what lets in no more. Raises Retryable, Terminal where the store does not tell."""
        held = self._leases.open  # before the store is asked: what is opened meanwhile may be newer than that
        tokens, now = await self._tokens.refresh(), self._people.tokens.now()
        sessions = [key.removeprefix(_SESSION) for key in held if key.startswith(_SESSION)]
        users = await self._sessions.users(sessions)
        for key in sessions:
            if key not in users or not self._people.stands(users[key], tokens):
                self._leases.end(_SESSION + key)
        for name in (key.removeprefix(_TOKEN) for key in held if key.startswith(_TOKEN)):
            if name not in tokens or not tokens[name].lets_in(now):
                self._leases.end(_TOKEN + name)
        return True
