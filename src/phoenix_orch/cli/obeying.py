"""What came of a person's word: that Phoenix has taken it does not mean that it has obeyed."""

from __future__ import annotations

import time

from phoenix_orch.client import Client
from phoenix_orch.kernel.errors import BadState, Retryable
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.commands import refusal, remedy, typed
from phoenix_orch.rollout.status import Command, CommandKind

PATIENCE = 3.0
"""Seconds to wait until a word is obeyed; the controller passes several times a second."""
INTERVAL = 0.05
_EVENTS = 50
"""The newest ones, among which is what became of a word of a moment ago."""


def check(view: RolloutView, kind: CommandKind, step: int | None) -> None:
    """Refuse what the orchestrator would refuse."""
    status, name = view.rollout.status, view.rollout.name
    why_not = refusal(status, kind, step)
    if why_not is not None:
        raise BadState(f"cannot {typed(kind)} {name}: {why_not}", remedy=remedy(status, kind, name))


def until_obeyed(client: Client, name: str, command: Command) -> str:
    """Wait until the word is obeyed; what to say when that takes too long, else nothing.

    Raises BadState when it came too late.
    """
    end, fault = time.monotonic() + PATIENCE, ""
    while time.monotonic() < end:
        try:
            view = client.rollout(name)
            if command.id in view.rollout.status.handled:
                if why := refused(client, name, command):
                    raise BadState(
                        f"cannot {why}", remedy=f"phoenix rollout status {name} shows where it stands"
                    )
                return ""
            fault = trouble(view)
        except Retryable as error:
            fault = error.message
        time.sleep(INTERVAL)
    reason = f": {fault}" if fault else ""
    return f"accepted, and not obeyed yet{reason}; `phoenix rollout status {name}` shows when it is"


def refused(client: Client, name: str, command: Command) -> str:
    """`KIND NAME: why`, where the machine did not obey; empty where it did."""
    for event in client.events(name, limit=_EVENTS):
        kind, _, why = event.message.partition(": ")
        if event.reason == "CommandRefused" and event.at >= command.at and kind == typed(command.kind):
            return f"{kind} {name}: {why}"
    return ""


def trouble(view: RolloutView) -> str:
    """What keeps Phoenix from acting now; the gravest first. Empty: nothing that it knows of."""
    found = {fault.at: fault.message for fault in view.faults}
    return found.get("abort") or next(iter(found.values()), "")
