"""What a person may say to a rollout, and what it does. Pure."""

from __future__ import annotations

from phoenix_orch.rollout.status import ACTIVE, Command, CommandKind, State, Status
from phoenix_orch.rollout.turn import Turn
from phoenix_orch.rollout.walk import next_step

HANDLED_KEPT = 32
"""Ids of handled commands to remember beyond those that still wait in the record; a command is dropped
from the record in the write that names it."""

_ALLOWED: dict[CommandKind, tuple[frozenset[State], str]] = {
    CommandKind.PAUSE: (
        frozenset({State.STARTING, State.PROGRESSING}),
        "only a rollout that is starting or progressing can be paused",
    ),
    CommandKind.RESUME: (frozenset({State.PAUSED}), "only a paused rollout can be resumed"),
    CommandKind.PROMOTE: (frozenset({State.PROGRESSING, State.PAUSED}), "there is no step to skip"),
    CommandKind.PROMOTE_FULL: (
        frozenset({State.STARTING, State.PROGRESSING, State.PAUSED}),
        "there is nothing to promote",
    ),
    CommandKind.END_BAKE: (frozenset({State.BAKING}), "there is no bake to end"),
    CommandKind.ABORT: (ACTIVE | {State.BAKING}, "there is no release to abort"),
    CommandKind.RETRY: (frozenset({State.ROLLED_BACK}), "only a rolled back release can be tried again"),
}


_WORDS = {CommandKind.PROMOTE_FULL: "promote --full", CommandKind.END_BAKE: "promote --end-bake"}


def typed(kind: CommandKind) -> str:
    """What a person types for it after `phoenix rollout`."""
    return _WORDS.get(kind, kind.value)


def refusal(status: Status, kind: CommandKind, step: int | None = None) -> str | None:
    """Why `kind` makes no sense in this state, or None when it does.

    `step`: the step, from 0, that a promotion is meant for. A word that comes too late skips nothing
    that nobody meant.
    """
    states, hint = _ALLOWED[kind]
    if status.state not in states:
        return f"{hint}; the state is {status.state.value}"
    if step is not None and step != status.step:
        return f"it is at step {status.step + 1} and not at step {step + 1}"
    if kind is CommandKind.ABORT and status.state is State.BAKING and status.previous is None:
        return "the revision before is not kept any more"
    return None


def remedy(status: Status, kind: CommandKind, name: str) -> str:
    """What a person whose word about rollout `name` was refused can do."""
    if status.state is State.BAKING and kind in (CommandKind.PROMOTE, CommandKind.PROMOTE_FULL):
        return f"the steps are over; `phoenix rollout promote {name} --end-bake` ends the bake, too"
    return f"phoenix rollout status {name} shows where it stands"


def handle_commands(turn: Turn) -> None:
    """Obey each waiting command once; one that makes no sense any more is refused with a note.

    An abort of what is on its way goes first: what came a moment before must not make it too late (R2).
    """
    abortable = refusal(turn.status, CommandKind.ABORT) is None
    for command in sorted(turn.seen.commands, key=lambda c: not (abortable and c.kind is CommandKind.ABORT)):
        if command.id in turn.status.handled:
            continue
        why_not = refusal(turn.status, command.kind, command.step) or _untimely(turn, command.kind)
        if why_not is None:
            _obey(turn, command)
        else:
            turn.note("CommandRefused", f"{typed(command.kind)}: {why_not}", actor=command.actor)
        turn.update(handled=(*turn.status.handled, command.id))
    waiting = {command.id for command in turn.seen.commands}
    handled = turn.status.handled
    oldest = len(handled) - HANDLED_KEPT
    kept = tuple(name for index, name in enumerate(handled) if index >= oldest or name in waiting)
    if kept != handled:
        turn.update(handled=kept)


def _untimely(turn: Turn, kind: CommandKind) -> str | None:
    """Why a right word comes at the wrong time; None: it does not."""
    if kind is CommandKind.RETRY and turn.seen.hold is not None:
        return turn.seen.hold.message
    if kind in (CommandKind.PROMOTE, CommandKind.PROMOTE_FULL) and turn.seen.halt is not None:
        return turn.seen.halt.message
    return None


def _obey(turn: Turn, command: Command) -> None:
    status, actor = turn.status, command.actor
    why = command.reason or f"by {actor}"
    match command.kind:
        case CommandKind.PAUSE:
            turn.go(
                State.PAUSED,
                f"paused: {why}",
                actor=actor,
                pause_by=actor,
                resume_to=status.state,
                step_clock=None,
            )
        case CommandKind.RESUME:
            _resume(turn, f"resumed: {why}", actor)
        case CommandKind.PROMOTE:
            _skip(turn, why, actor)
        case CommandKind.PROMOTE_FULL:
            turn.go(State.PROMOTING, f"all steps skipped: {why}", actor=actor, pause_by="", resume_to=None)
        case CommandKind.END_BAKE:
            turn.finish(f"bake skipped: {why}", actor=actor)
        case CommandKind.ABORT:
            turn.take_back("person", f"aborted: {why}", actor=actor)
        case CommandKind.RETRY:
            turn.begin(
                status.canary or turn.seen.target, f"tried again: {why}", actor=actor, clear_latch=True
            )


def _resume(turn: Turn, message: str, actor: str) -> None:
    turn.go(
        turn.status.resume_to or State.PROGRESSING,
        message,
        actor=actor,
        pause_by="",
        resume_to=None,
        step_clock=None,
    )


def _skip(turn: Turn, why: str, actor: str) -> None:
    """Skip what is left of the step; a pause ends with it."""
    if turn.status.state is State.PAUSED:
        _resume(turn, f"resumed: {why}", actor)
    if turn.status.state is State.PROGRESSING:
        next_step(turn, f"step skipped: {why}", actor=actor)
