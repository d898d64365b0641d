"""Who may do what where. Pure.

    viewer    READ        sees everything but secrets
    operator  OPERATE     steers releases and tasks
    approver  APPROVE     releases in a freeze, and is the second person for what destroys
    admin     ADMINISTER  says what is wanted, and who may do what

Each role has the rights of all before it. A grant gives a role in one namespace, or everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

EVERYWHERE = "*"
"""Namespace of a grant that holds in all of them; and of what belongs to none: tokens, keys."""
EMBEDDED = "default"
"""The one namespace of a Phoenix that runs without a cluster."""


class Right(StrEnum):
    """What one needs to pass a door; ordered, the least first."""

    READ = "read"
    OPERATE = "operate"
    APPROVE = "approve"
    ADMINISTER = "administer"


class Role(StrEnum):
    """What one is; ordered, the least first."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"

    @property
    def rights(self) -> frozenset[Right]:
        """Its own right and those of all roles below."""
        return frozenset(list(Right)[: list(Role).index(self) + 1])


class Kind(StrEnum):
    """How somebody became known."""

    USER = "user"
    """Of this machine, as the kernel names the peer of a unix socket."""
    TOKEN = "token"  # noqa: S105 - a kind, no secret
    """An API token of Phoenix."""
    OIDC = "oidc"
    """A person or program of an identity provider."""
    KUBERNETES = "kubernetes"
    """A user or service account of the cluster."""


@dataclass(frozen=True, slots=True)
class Grant:
    role: Role
    namespace: str = EVERYWHERE


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who is known, and what was granted to them."""

    name: str
    """Unique within its kind; shown as the actor of what they change."""
    kind: Kind
    grants: tuple[Grant, ...] = ()
    maker: str = ""
    """Key of who made it, where it is a token: it speaks for that person."""

    @property
    def key(self) -> str:
        """One text for each principal."""
        return f"{self.kind}:{self.name}"

    @property
    def person(self) -> str:
        """Two principals are the same person when it is the same."""
        return self.maker or self.key


def held_in(grants: Iterable[Grant], namespace: str) -> tuple[Grant, ...]:
    """Those of them that hold there, for a process that serves this namespace and no other: to it there is
    nothing else."""
    return tuple(Grant(one.role) for one in grants if one.namespace in (namespace, EVERYWHERE))


def allows(principal: Principal, right: Right, namespace: str) -> bool:
    """Whether one of the principal's grants holds there and gives the right.

    What belongs to no namespace (`EVERYWHERE`) needs a grant that holds everywhere.
    """
    return any(
        right in grant.role.rights and grant.namespace in (namespace, EVERYWHERE)
        for grant in principal.grants
    )
