"""What the API server's refusals and silences mean, and what to do about them. Pure.

NotFound · Invalid           the kernel's; Invalid repeats what the API server says of each field
└── Unapplicable             a patch does not fit the object
Forbidden (Terminal)         a rule of RBAC is missing; names it
Conflict
└── Changed                  the object has changed since it was read; nothing was written
    ├── AlreadyExists        a create met an object of that name
    └── FieldConflict        a server-side apply met fields of other managers; names them
Retryable
├── Unreachable              the request was never sent: nothing has happened
├── Throttled                refused for now (429): nothing has happened
├── Unanswered               sent, no usable answer: nobody knows whether it took effect
├── Gone                     a watch or a list from a version that is no longer kept (410)
└── Unauthenticated          the credentials are not accepted (401)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from phoenix_orch.kernel.errors import Conflict, Invalid, NotFound, PhoenixError, Retryable, Terminal
from phoenix_orch.kube.resources import ALL_NAMESPACES, Resource

_MANAGER = re.compile(r'conflict with "(?P<manager>.*?)"(?: with subresource "[^"]*")?(?: using .*)?$')
_ADMISSION = re.compile(r"is forbidden: |admission webhook ")
_FOR_WHOM = re.compile(r'User "[^"]*" cannot ')
"""What authorization says, and admission does not."""
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Call:
    """One thing asked of the API server, as RBAC names it."""

    verb: str
    """get, list, watch, create, update, patch, delete."""
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else str(self.resource)
        name = f" {self.name}" if self.name else ""
        return f"{self.verb} {what}{name}{self.where}"

    @property
    def where(self) -> str:
        if not self.resource.namespaced:
            return ""
        if self.namespace == ALL_NAMESPACES:
            return " in all namespaces"
        return f" in namespace {self.namespace}"


class Forbidden(Terminal):
    """RBAC does not allow `call`; or, where `admission`, a quota or a policy refuses what it would write."""

    code = "forbidden"

    def __init__(self, message: str, *, call: Call, remedy: str = "", admission: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.call = call
        self.admission = admission


class Changed(Conflict):
    maybe_ours = False
    """An earlier attempt of the same call was not answered: the change may be its own. Read again."""


class AlreadyExists(Changed):
    code = "already_exists"


class FieldOwner(NamedTuple):
    """A field that somebody else manages."""

    manager: str
    field: str


class FieldConflict(Changed):
    """Nothing was written, because other managers own fields of it."""

    code = "field_conflict"

    def __init__(self, message: str, *, owners: tuple[FieldOwner, ...], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.owners = owners


class Unreachable(Retryable):
    code = "cluster_unreachable"


class Throttled(Retryable):
    code = "throttled"

    def __init__(self, message: str, *, retry_after: float = 0.0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after
        """Seconds the API server asks to wait."""


class Unanswered(Retryable):
    code = "unanswered"

    def __init__(self, message: str, *, retry_after: float = 0.0, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after = retry_after


class Unapplicable(Invalid):
    """A patch that cannot be applied. Of a JSON patch the API server does not say whether a test of it
    did not hold, or a path of it does not exist."""

    code = "unapplicable"


class Gone(Retryable):
    code = "gone"


class Unauthenticated(Retryable):
    code = "unauthenticated"


@dataclass(frozen=True, slots=True)
class Status:
    """What of a `metav1.Status` matters here."""

    code: int
    reason: str = ""
    message: str = ""
    causes: tuple[Mapping[str, Any], ...] = ()
    retry_after: float = 0.0


def status_from(code: int, body: bytes, retry_after: str | None = None) -> Status:
    """Read an answer that is not a success. A body that is no Status (a proxy's page) is its own message."""
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    if isinstance(data, dict) and data.get("kind") == "Status":
        found = status_from_object(data, code)
    else:
        found = Status(code, message=" ".join(body.decode("utf-8", "replace").split())[:_SHOWN])
    if retry_after and retry_after.strip().isdigit():
        return replace(found, retry_after=max(found.retry_after, float(retry_after)))
    return found


def status_from_object(data: Mapping[str, Any], code: int = 0) -> Status:
    details = data.get("details") or {}
    return Status(
        code=int(data.get("code") or code),
        reason=str(data.get("reason") or ""),
        message=str(data.get("message") or ""),
        causes=tuple(details.get("causes") or ()),
        retry_after=float(details.get("retryAfterSeconds") or 0),
    )


def translated(call: Call, status: Status) -> PhoenixError:
    """The error for an answer that is not a success."""
    said = status.message or f"HTTP {status.code}"
    match status.code:
        case 401:
            return Unauthenticated(
                f"the API server does not accept Phoenix's credentials ({call})",
                remedy="log in again, or look at the user or service account that is configured",
            )
        case 403:
            return _forbidden(call, said)
        case 404:
            return _not_found(call, said)
        case 409:
            return _conflict(call, status, said)
        case 410:
            return Gone(f"{call}: the version asked for is no longer kept", remedy="list anew")
        case 429:
            return Throttled(
                f"the API server asks to wait ({call}): {said}",
                retry_after=status.retry_after,
                remedy="it passes by itself; when it stays, look at the API server's priority and fairness",
            )
        case 400 | 405 | 406 | 413 | 415 | 422:
            return _invalid(call, status, said)
        case code if code >= 500:
            return Unanswered(
                f"the API server failed ({call}): {said}",
                retry_after=status.retry_after,
                remedy="it passes by itself while the API server restarts; otherwise its log has the reason",
            )
    return Terminal(f"the API server answered {status.code} ({call}): {said}")


def _forbidden(call: Call, said: str) -> Forbidden:
    if _ADMISSION.search(said) and not _FOR_WHOM.search(said):
        return Forbidden(
            f"the cluster does not take {call}: {said}",
            call=call,
            remedy="an admission plugin, a policy or a quota refuses it, and no rule would help",
            admission=True,
        )
    rule = needed_rule(call)
    kind = "Role" if call.resource.namespaced and call.namespace else "ClusterRole"
    return Forbidden(
        f"Phoenix may not {call}: {said}",
        call=call,
        remedy=f"add to its {kind}: {rule}; if the rule is there, something else refused it",
    )


def needed_rule(call: Call) -> str:
    """The rule of RBAC that allows `call`, as YAML in one line."""
    what = f"{call.resource.plural}/{call.subresource}" if call.subresource else call.resource.plural
    return f'{{apiGroups: ["{call.resource.group}"], resources: ["{what}"], verbs: ["{call.verb}"]}}'


def _not_found(call: Call, said: str) -> NotFound:
    if "could not find the requested resource" in said or not call.name:
        return NotFound(
            f"the cluster does not serve {call.resource} {call.resource.version} ({call})",
            remedy=f"install what defines {call.resource.kind} in {call.resource.api_version}",
        )
    return NotFound(f"{call.resource.kind} {call.name} does not exist{call.where}")


def _conflict(call: Call, status: Status, said: str) -> Changed:
    if status.reason == "AlreadyExists":
        return AlreadyExists(f"{call.resource.kind} {call.name} exists already{call.where}")
    owners = tuple(
        FieldOwner(found["manager"], str(cause.get("field", "")))
        for cause in status.causes
        if cause.get("reason") == "FieldManagerConflict"
        and (found := _MANAGER.search(str(cause.get("message", ""))))
    )
    if owners:
        told = "; ".join(f"{owner.field} belongs to {owner.manager or 'another'}" for owner in owners)
        return FieldConflict(
            f"{call.resource.kind} {call.name}{call.where} is not written: {told}",
            owners=owners,
            remedy="leave these fields out, let the other manager give them up, or force it; what a manager "
            "wrote otherwise than by apply counts as another's",
        )
    return Changed(f"{call.resource.kind} {call.name}{call.where} changed meanwhile: {said}")


def _invalid(call: Call, status: Status, said: str) -> Invalid:
    if status.code == 422 and call.verb == "patch" and not status.causes:
        return Unapplicable(
            f"the patch does not fit {call.resource.kind} {call.name}{call.where}: {said}",
            remedy="look at its paths, and at what the object has there",
        )
    fields = [
        f"{cause['field']}: {cause.get('message', '')}" for cause in status.causes if cause.get("field")
    ]
    told = "; ".join(fields) or said
    return Invalid(f"the API server refuses {call.resource.kind} {call.name}{call.where}: {told}")
