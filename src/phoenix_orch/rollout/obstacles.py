"""A release that waits for something else than its health: no weight for the canary, and no advance. Pure.

What is not looked at must not pass (R1), and what is asked for by a wrong name is not looked at. Such a
release waits as long as it takes; its canary is not blamed for it.
"""

from __future__ import annotations

from phoenix_orch.rollout.turn import Turn


def obstructed(turn: Turn) -> bool:
    """Whether the release has to wait; why is in the status, and told once for each reason.

    A return to a revision that was stable before is judged by nothing, so nothing is missing for it.
    """
    before, found = turn.status.obstacle, None if turn.status.fast else turn.seen.obstacle
    if found is None:
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
