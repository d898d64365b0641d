"""A release that waits for something else than its health: it does not begin, or gets no more weight. Pure.

What is not looked at must not pass (R1), and what is asked for by a wrong name is not looked at. Such a
release waits as long as it takes; its canary is not blamed for it.
"""

from __future__ import annotations

from phoenix_orch.rollout.turn import Turn


def obstructed(turn: Turn) -> bool:
    """Whether the release has to wait; why is in the status, and told once for each reason.

    A return to a revision that was stable before is judged by nothing, so nothing is missing for it.
    """
    before, found = turn.status.obstacle, turn.seen.obstacle or turn.seen.halt
    if found is None or turn.status.fast:
        if before is not None:
            message = f"{before.reason} is over, and the release goes on"
            turn.update(obstacle=None, since=turn.now, message=message)
            turn.note("Unblocked", message)
        return False
    if found != before:
        turn.update(obstacle=found, message=found.message)
        if before is None or before.reason != found.reason:
            turn.note("Blocked", found.message)
    return True


def waits(turn: Turn) -> bool:
    """Whether the release that is wanted may not begin yet. A return to a revision that was stable before
    never waits."""
    return turn.seen.hold is not None and not turn.seen.fast


def held_at_rest(turn: Turn) -> bool:
    """The same where nothing is under way; why is in the status then, and told once for each reason."""
    before, found = turn.status.obstacle, turn.seen.hold
    if not waits(turn) or found is None:
        return False
    if found != before:
        turn.update(obstacle=found, message=found.message)
        if before is None or before.reason != found.reason:
            turn.note("Waiting", f"the release of {turn.seen.target} waits: {found.message}")
    return True


def nothing_waits(turn: Turn) -> None:
    """What waited is not wanted any more."""
    if turn.status.obstacle is not None:
        message = "the release that waited is not wanted any more"
        turn.update(obstacle=None, message=message)
        turn.note("WaitingEnded", message)
