"""The reference of rights, from the doors of the application itself."""

from __future__ import annotations

import types
import typing

from phoenix_orch.security.rights import EVERYWHERE, Right, Role

PATH = "docs/reference/rights.md"

INTRODUCTION = """Who may do what. A role has the right of its row and of all rows above it, in one namespace
or everywhere; Phoenix without a cluster has one namespace, `default`. How people and programs get a role is
in [access](../how-to/access.md).
"""
_OF: typing.Final[dict[Role, str]] = {
    Role.VIEWER: "see everything but secrets",
    Role.OPERATOR: "start, pause, resume, promote, abort, undo, restart; run, cancel and retry tasks; freeze",
    Role.APPROVER: "release in a freeze, end one, and be the second person for what destroys",
    Role.ADMIN: "say what is wanted (`apply`); where the role holds everywhere, make and revoke tokens",
}
_NOTES = """Some bodies ask for more than their route: a start or command with `overrideFreeze` takes the
right to approve. Whoever asked for a second person may refuse it without that right.

Nobody known is answered 401, a missing right 403, and a page of the console with the way to the login.
"""


def page(generated: str) -> str:
    lines = ["# Rights", generated, INTRODUCTION, _roles(), _NOTES, "## Routes", _routes()]
    return "\n\n".join(part.strip() for part in lines) + "\n"


def _roles() -> str:
    rows = ["| role | right | may |", "|---|---|---|"]
    rows += [
        f"| {role.value} | {right.value} | {_OF[role]} |" for role, right in zip(Role, Right, strict=True)
    ]
    return "\n".join(rows)


def _routes() -> str:
    from phoenix_orch.api.door_walk import ways  # noqa: PLC0415 - a second of imports
    from phoenix_orch.api.server import create_app  # noqa: PLC0415
    from phoenix_orch.console.install import install  # noqa: PLC0415

    nothing = typing.cast("typing.Any", types.SimpleNamespace(tokens=None, approving=None, others=None))
    app = create_app(nothing, identity=nothing)
    install(app, nothing)
    rows = ["| route | open | " + " | ".join(role.value for role in Role) + " |"]
    rows.append("|---|---|" + "---|" * len(Role))
    for way in ways(app):
        may = [any(door.right in role.rights for door in way.doors) for role in Role]
        where = " everywhere" if any(door.namespace == EVERYWHERE for door in way.doors) else ""
        marks = " | ".join(f"yes{where}" if one else "" for one in may)
        rows.append(f"| {way.method} `{way.path}` | {'yes' if way.open else ''} | {marks} |")
    return "\n".join(rows)
