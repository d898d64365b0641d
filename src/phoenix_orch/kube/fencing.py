"""The term of a leader on what it writes, so that a late write of an earlier leader is refused. Pure.

Every write carries the version it was decided on, so that the API server refuses it when a later leader has
written the object since. The term on the object lets a leader that has just read it see that it is itself
the late one.
"""

from __future__ import annotations

from phoenix_orch.kernel.errors import BadState, Invalid
from phoenix_orch.kube.lease import Term
from phoenix_orch.kube.resources import Object

TERM = "phoenix-orch.io/term"
"""The annotation."""


class NotLeading(BadState):
    """Another process may lead by now; nothing was written."""

    code = "not_leading"


class Superseded(NotLeading):
    """Another process leads, and has written."""

    code = "superseded"


def refuse_late(found: Object, term: Term) -> None:
    """Raise Superseded when a later leader than that of `term` has written `found`."""
    said = (found["metadata"].get("annotations") or {}).get(TERM)
    if said is None:
        return
    try:
        written = Term.parse(said)
    except Invalid:
        return  # somebody's hand; it orders nothing
    if written > term:
        raise Superseded(
            f"{found.get('kind', 'the object')} {found['metadata']['name']} was written by a later leader "
            f"(term {written}, this is {term})",
            remedy="stop; nothing was written",
        )


def annotation(term: Term) -> dict[str, str]:
    """What to write among the annotations."""
    return {TERM: str(term)}
