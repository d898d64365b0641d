"""The rollout state machine: `decide(spec, status, observed, now) -> Decision`.

Pure: no clock, no I/O, no memory but `status`. One call does three things, kept apart:

- `commands` obeys what people said;
- `walk` moves the status by what was observed, along `transitions.TRANSITIONS`;
- `desire` says what the world should look like for that status.

The shell makes the world so, observes again and comes back. Everything is level-triggered: a crash
between any two steps of the shell changes nothing about the next decision (rule R7).
"""

from __future__ import annotations

from datetime import datetime

from phoenix_orch.rollout.commands import handle_commands
from phoenix_orch.rollout.desire import desire
from phoenix_orch.rollout.facts import Decision, Observed
from phoenix_orch.rollout.spec import RolloutSpec
from phoenix_orch.rollout.status import Status
from phoenix_orch.rollout.turn import Turn
from phoenix_orch.rollout.walk import advance


def decide(spec: RolloutSpec, status: Status, observed: Observed, now: datetime) -> Decision:
    """Decide once. Rules R1 to R7 of the design are checked on this function by property tests."""
    turn = Turn(spec, status, observed, now)
    handle_commands(turn)
    advance(turn)
    return desire(turn)
