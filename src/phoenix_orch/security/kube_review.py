"""Who a Kubernetes token belongs to, and what they may do here: asked of the API server.

A TokenReview says who it is. What they may do is a LocalSubjectAccessReview for each right, on a resource
that exists only as a word in rules: `apiGroups: [phoenix-orch.io], resources: [api], verbs: [operate]`.
Answers count for ten seconds. Nothing of a token is kept but its hash, and nothing of it is told.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from phoenix_orch.kernel.errors import Unauthenticated
from phoenix_orch.kube.errors import Forbidden
from phoenix_orch.kube.resources import Object, Resource
from phoenix_orch.security.rights import Grant, Kind, Principal, Right, Role

TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview"
)
AUDIENCE = "phoenix-orch.io"
"""Of tokens that are worth nothing to anybody but Phoenix: `kubectl create token NAME --audience …`."""
GROUP, RESOURCE = "phoenix-orch.io", "api"
"""What rules name."""
LIFETIME = 10.0
"""Seconds that an answer counts: so long a token that was revoked still opens doors."""
KEPT = 1000
"""Tokens whose answer is kept, the newest."""
LONGEST = 16_384
"""Characters of a token that is looked at: an API server's own are some 1,000."""


User = dict[str, Any]
"""As a TokenReview names one: username, uid, groups, extra."""


class Api(Protocol):
    """As much of a KubeClient as is asked."""

    @property
    def namespace(self) -> str: ...

    async def post(self, resource: Resource, body: Object, *, namespace: str = "") -> Object: ...


class KubeReviews:
    """Asks for one namespace. For one event loop; any number of tasks may call it."""

    def __init__(self, api: Api, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`api`: a client of its own, so that no number of wrong tokens keeps anything else waiting."""
        self._api = api
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, asyncio.Task[Principal | None]]] = OrderedDict()

    async def principal(self, token: str) -> Principal | None:
        """Who has it, with the highest role that the cluster's rules give; None: no token of this cluster.

        Raises Retryable while the API server is away, Unauthenticated where Phoenix may not ask.
        """
        if not token or len(token) > LONGEST:
            return None
        asked = self._asked(hashlib.sha256(token.encode()).digest(), lambda: self._review(token))
        return await asyncio.shield(asked)  # others may wait for the same answer

    async def whose(self, token: str) -> User | None:
        """Who has it, whatever they may do; None: no token of this cluster. Raises as `principal`."""
        if not token or len(token) > LONGEST:
            return None
        return await self._user(token, [AUDIENCE]) or await self._user(token, [])

    async def of(self, user: User) -> Principal:
        """A user with what the cluster's rules give them now. Raises Retryable."""
        told = json.dumps(user, sort_keys=True)
        asked = self._asked(hashlib.sha256(b"user " + told.encode()).digest(), lambda: self._granted(user))
        found = await asyncio.shield(asked)
        assert found is not None
        return found

    def _asked(
        self, key: bytes, ask: Callable[[], Coroutine[Any, Any, Principal | None]]
    ) -> asyncio.Task[Principal | None]:
        now = self._clock()
        at, task = self._known.get(key, (0.0, None))
        if task is None or now - at >= LIFETIME or _failed(task):
            task = asyncio.create_task(ask())
            task.add_done_callback(_seen)
            self._known[key] = now, task
            self._known.move_to_end(key)
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        return task

    async def _review(self, token: str) -> Principal | None:
        user = await self.whose(token)
        return None if user is None else await self._granted(user)

    async def _granted(self, user: User) -> Principal:
        roles = [role for role in Role if await self._may(user, _own_right(role))]
        grants = (Grant(roles[-1]),) if roles else ()  # everywhere here: a process serves one namespace
        return Principal(str(user["username"]), Kind.KUBERNETES, grants)

    async def _user(self, token: str, audiences: list[str]) -> dict[str, Any] | None:
        """The user as the API server knows them. No audiences: a token for the API server itself."""
        spec: Object = {"token": token, **({"audiences": audiences} if audiences else {})}
        try:
            answer = await self._api.post(TOKEN_REVIEWS, {"metadata": {}, "spec": spec})
        except Forbidden as error:
            raise Unauthenticated(
                "Phoenix may not ask the API server whose token this is",
                remedy="bind its service account to a ClusterRole that may create tokenreviews, as"
                " k8s/base/api.yaml does",
            ) from error
        status = answer.get("status") or {}
        if not status.get("authenticated"):
            return None
        user: dict[str, Any] = status.get("user") or {}
        return user if user.get("username") else None

    async def _may(self, user: dict[str, Any], right: Right) -> bool:
        namespace = self._api.namespace
        wanted = {"namespace": namespace, "verb": right.value, "group": GROUP, "resource": RESOURCE}
        spec = {
            "user": user["username"],
            "groups": user.get("groups") or [],
            "uid": user.get("uid") or "",
            "extra": user.get("extra") or {},
            "resourceAttributes": wanted,
        }
        body: Object = {"metadata": {"namespace": namespace}, "spec": spec}
        answer = await self._api.post(ACCESS_REVIEWS, body, namespace=namespace)
        status = answer.get("status") or {}
        return bool(status.get("allowed")) and not status.get("denied")


def _own_right(role: Role) -> Right:
    """The one that a role has and none below it."""
    return list(Right)[list(Role).index(role)]


def _failed(task: asyncio.Task[Principal | None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _seen(task: asyncio.Task[Principal | None]) -> None:
    """Those who waited have the error; where nobody waits any more it is nobody's."""
    if not task.cancelled():
        task.exception()
