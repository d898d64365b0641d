"""The words that every picture of a rollout is made of: command line, console, `top`. Pure."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from phoenix_orch.kernel.text import plain
from phoenix_orch.kernel.units import format_duration
from phoenix_orch.orchestrator.views import Rates, RolloutView
from phoenix_orch.rollout.status import ACTIVE, State


def gist(text: str) -> str:
    """The first clause, for a line of a list; pages about one thing have all of it."""
    return re.split(r"[;.] ", text, maxsplit=1)[0]


def part(view: RolloutView, revision: str) -> str:
    """`stable`, `canary`, `kept warm`, `latched`; nothing for one that is only kept to be gone back to."""
    status, traffic = view.rollout.status, view.traffic
    latched = traffic is not None and revision in traffic.aborted
    names = {
        "stable": revision == status.stable,
        "canary": revision == status.canary and not latched,
        "kept warm": revision == status.previous,
        "latched": latched,
    }
    return ", ".join(name for name, so in names.items() if so)


def mark(view: RolloutView, index: int) -> str:
    """`>` for the present step, `+` for one that is behind, nothing for one that is ahead."""
    state = view.rollout.status
    if state.state in (State.PROMOTING, State.BAKING, State.PROMOTED):
        return "+"
    if state.canary is None or state.state in (State.INITIALIZING, State.IDLE, State.STARTING):
        return " "
    return ">" if index == state.step else "+" if index < state.step else " "


def pair(view: RolloutView) -> tuple[tuple[str, str | None, Rates], tuple[str, str | None, Rates]]:
    """(name, revision, rates) of the new and the old one; after a promotion the new one is stable."""
    state = view.rollout.status
    if state.state in (State.BAKING, State.PROMOTED):
        return ("new", state.stable, view.canary), ("old", state.previous, view.stable)
    return ("canary", state.canary, view.canary), ("stable", state.stable, view.stable)


def running(view: RolloutView, revision: str | None) -> str:
    if view.workload is None or revision is None:
        return ""
    return f"{len(view.workload.ready(revision))}/{view.workload.wanted.get(revision, 0)}"


def message(view: RolloutView) -> str:
    """The machine's own word; nothing while it only repeats verdict or cause, which are shown anyway."""
    status = view.rollout.status
    verdict = view.verdict if status.state in ACTIVE else None
    if status.state is State.PROGRESSING and verdict is not None:
        return ""
    shown = {verdict.reason if verdict else "", status.cause.reason if status.cause else ""}
    return "" if status.message in shown else status.message


def phase(view: RolloutView) -> str:
    """`expanded 2/7` while a release walks its steps."""
    state = view.rollout.status
    if state.state not in ACTIVE or state.step >= len(view.steps):
        return ""
    return f"{view.steps[state.step].phase} {state.step + 1}/{len(view.steps)}"


def wanted(view: RolloutView) -> str:
    """The share of traffic asked for: of the canary, or, where there is none, of stable, which has all."""
    status = view.rollout.status
    if status.canary is not None:
        return f"{status.weight}%"
    return "100%" if status.stable is not None and status.state is not State.INITIALIZING else ""


def seen(view: RolloutView) -> str:
    """The same share as the data plane is seen to send it; empty when that cannot be seen."""
    status, traffic = view.rollout.status, view.seen
    if traffic is None or traffic.weight is None:
        return ""
    if status.canary is not None:
        swapped = traffic.stable_revision == status.canary  # a promotion that is seen before it is noted
        return f"{100 - traffic.weight if swapped else traffic.weight}%"
    if traffic.stable_revision in (None, status.stable):
        return f"{100 - traffic.weight}%" if wanted(view) else ""
    return f"{traffic.weight if traffic.canary_revision == status.stable else 0}%"


def share(view: RolloutView) -> str:
    """`5% wanted, 5% seen`."""
    return f"{wanted(view) or 'nothing'} wanted, {seen(view) or 'not'} seen"


def version(view: RolloutView, revision: str | None) -> str:
    return plain(view.versions.get(revision, revision)) if revision is not None else ""


def named(view: RolloutView, revision: str | None) -> str:
    """`1.5.0 (2222222222)`."""
    if revision is None:
        return "none"
    return f"{version(view, revision)} ({revision})" if revision in view.versions else revision


def left(view: RolloutView) -> str:
    """`46m left`, and on a compressed clock what that is on a watch."""
    if view.time_left is None:
        return ""
    text = f"{format_rounded(view.time_left)} left"
    if view.speed != 1:
        text += f" ({format_rounded(view.time_left / view.speed)} on your watch)"
    return text


def moment(at: datetime) -> str:
    """To the second, in UTC, as ISO 8601 has it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def format_rounded(duration: timedelta) -> str:
    return format_duration(timedelta(seconds=round(max(0.0, duration.total_seconds()))))
