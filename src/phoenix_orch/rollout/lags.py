"""What is said of a router that does not do as the traffic object says. Pure."""

from __future__ import annotations

from datetime import timedelta

from phoenix_orch.rollout.turn import Turn

SLOW_ABORT = timedelta(seconds=10)
"""Time after which a router that has not followed an abort is worth a word."""
SLOW_SHARE = timedelta(seconds=30)
"""The same of one that does not send the share of a step."""


def after_an_abort(turn: Turn) -> None:
    """The latch is set and the data plane does not follow, or cannot be seen: say so, once."""
    status, traffic = turn.status, turn.seen.traffic
    if traffic is None or status.since is None or turn.now - status.since < SLOW_ABORT:
        return
    if traffic.seen is None:
        message = f"latched; the router does not say whether {status.canary} still gets requests"
    else:
        message = f"latched, but the router has not followed yet; it sends {traffic.seen} % to the canary"
    if status.message != message:
        turn.update(message=message)
        turn.note("RouterLags", f"{message}; it is replaced if that lasts")


def of_a_step(turn: Turn, weight: int) -> str:
    """Why the clock of a step stands; an event where another share is seen for long, once."""
    held, traffic = turn.status.hold_since, turn.seen.traffic
    short = f"waiting to see {weight} % on the data plane"
    if traffic is not None and traffic.weight != weight and turn.seen.steering:
        return f"{short}: {turn.seen.steering}"
    if traffic is None or traffic.seen is None or held is None or turn.now - held < SLOW_SHARE:
        return short
    message = f"the data plane does not send {weight} %, and the clock stands"
    if turn.status.message != message:
        turn.note("RouterLags", f"{message}; it sends {traffic.seen} %")
    return message
