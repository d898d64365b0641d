"""The doors: every route has exactly one, and says with it which right one needs.

    @router.post("/rollouts/{name}/start")
    async def start_release(name: str, who: Operator) -> Change: ...

    @router.get("/rollouts", dependencies=[READ])

What needs no right at all says so, too: `dependencies=[OPEN]`. A test walks over all routes and finds one
that has no door, or two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from phoenix_orch.api.rates import Rates
from phoenix_orch.api.request_ids import request_id
from phoenix_orch.kernel.errors import Forbidden, Unauthenticated
from phoenix_orch.security.acting import Caller, current
from phoenix_orch.security.rights import EMBEDDED, EVERYWHERE, Principal, Right, allows
from phoenix_orch.security.sessions import Session

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""


class Authenticator(Protocol):
    """One way to become known."""

    async def __call__(self, request: Request) -> Principal | None:
        """Who asks; None where the request shows nothing of this way.

        Raises Unauthenticated where it does and nobody is known by it.
        """
        ...


class Door:
    """Lets those pass who have the right in the namespace, and tells who that is."""

    def __init__(self, right: Right, namespace: str) -> None:
        self.right = right
        self.namespace = namespace

    async def __call__(self, request: Request) -> Caller:
        principal = await known(request)
        session: Session | None = getattr(request.state, "session", None)
        csrf = "" if session is None else session.csrf
        caller = Caller(principal, request_id(), address_of(request), csrf)
        current.set(caller)
        demand(caller, self.right, self.namespace)
        return caller


def require(right: Right, namespace: str = EMBEDDED) -> Door:
    """A dependency that gives the Caller.

    Raises Unauthenticated (401) where nobody is known, Forbidden (403) where the right is missing.
    """
    return Door(right, namespace)


async def open_to_all() -> None:
    """The door of what needs no right: it says nothing that anybody may not know."""


def demand(caller: Caller, right: Right, namespace: str = EMBEDDED) -> None:
    """For what needs more than its door does, by what is asked. Raises Forbidden."""
    if not allows(caller.principal, right, namespace):
        raise Forbidden(
            f"{caller.name} has no right to {right.value} in {_told(namespace)}",
            remedy=f"ask an admin for a role with the right {right.value}",
        )


READ: Any = Depends(require(Right.READ))
OPEN: Any = Depends(open_to_all)

Reader = Annotated[Caller, READ]
Operator = Annotated[Caller, Depends(require(Right.OPERATE))]
Approver = Annotated[Caller, Depends(require(Right.APPROVE))]
Administrator = Annotated[Caller, Depends(require(Right.ADMINISTER))]
Keeper = Annotated[Caller, Depends(require(Right.ADMINISTER, EVERYWHERE))]
"""Of what belongs to no namespace: tokens."""


async def known(request: Request) -> Principal:
    """Who asks. Raises Unauthenticated, TooMany."""
    authenticators: Sequence[Authenticator] = request.app.state.authenticators
    rates: Rates | None = request.app.state.rates
    for authenticator in authenticators:
        try:
            principal = await authenticator(request)
        except Unauthenticated:
            if rates is not None:
                rates.failed(address_of(request))
            raise
        if principal is not None:
            if rates is not None:
                rates.asked(principal, changes=request.method not in SAFE)
            return principal
    raise Unauthenticated(
        "the request does not say who asks",
        remedy="send `Authorization: Bearer TOKEN`; `phoenix token create` makes one",
    )


def address_of(request: Request) -> str:
    """Where the request came from: an IP address, or `unix`."""
    return request.client.host if request.client and request.client.host else "unix"


def _told(namespace: str) -> str:
    return f"namespace {namespace}" if namespace != EVERYWHERE else "all namespaces"
