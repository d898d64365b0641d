"""What people's hands on the Deployments ask for. Pure; level-triggered.

A canary whose template differs from what stable runs, and that wants pods, is a release. Somebody else's
change of stable is no release: during one it is an abort, at rest it is how things are now.
"""

from __future__ import annotations

from dataclasses import dataclass

from phoenix_orch.rollout.status import ACTIVE, RESTING, CommandKind, State, Status

_TAKEN_BACK = frozenset({State.ROLLING_BACK, State.ROLLED_BACK})


@dataclass(frozen=True, slots=True)
class Standing:
    """What the two Deployments say."""

    stable: str
    """The revision that stable is to run."""
    canary: str | None = None
    """The revision that the canary is to run; None: there is no such Deployment."""
    canary_asks: bool = False
    """It wants pods, or would if Phoenix had not scaled it to zero after another release."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What follows from it."""

    target: str
    """The revision that is wanted."""
    adopt: str | None = None
    """This is stable by now, without a release."""
    say: CommandKind | None = None
    """The command that a change by hand amounts to."""


def wish(status: Status, target: str, found: Standing) -> Wish:
    """`target`: what was wanted so far."""
    wanted = _target(status, target, found)
    if status.state is State.INITIALIZING:
        return Wish(found.stable)
    if found.stable == status.stable:
        return Wish(wanted)
    if status.state in RESTING:
        return Wish(wanted, adopt=found.stable)
    if status.state in ACTIVE:
        promoting = status.state is State.PROMOTING and found.stable == status.canary
        return Wish(wanted, say=None if promoting else CommandKind.ABORT)
    if status.state is State.BAKING:
        if found.stable == status.previous:
            return Wish(found.stable)  # kubectl rollout undo: the machine takes the new one back
        return Wish(wanted, say=CommandKind.END_BAKE)
    if found.stable == status.canary:
        return Wish(wanted)  # stable is being put back
    return Wish(wanted, adopt=found.stable)


def _target(status: Status, target: str, found: Standing) -> str:
    """The canary's revision while it asks for a release, and while the machine is about it.

    One that was taken back is still what the release was about, whoever took it back: otherwise it would end
    as if nothing had been wanted, and who waits for a rollback would see none.
    """
    if found.canary is None or found.canary == found.stable:
        return found.stable
    about = found.canary == status.canary and (target == found.canary or status.state in _TAKEN_BACK)
    return found.canary if about or found.canary_asks else found.stable
