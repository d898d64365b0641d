"""Somebody who is known to the API, for tests that go past the unix socket."""

from __future__ import annotations

from phoenix_orch.security.rights import Grant, Kind, Principal, Role


async def admin(_: object) -> Principal:
    """An authenticator that takes everybody for an admin."""
    return Principal("me", Kind.USER, (Grant(Role.ADMIN),))
