"""An abort to its end: until the revision is latched and the router is seen to send it nothing.

Phoenix does it, and is watched. Where it does not answer, or does not act within a moment, the traffic
object is changed from here (rule R2). What is said in the end is what was seen, never what was asked for.
"""

from __future__ import annotations

import time
from pathlib import Path

from phoenix_orch.cli import obeying, reaching
from phoenix_orch.cli.following import note
from phoenix_orch.client import offline
from phoenix_orch.client.offline import Aborted
from phoenix_orch.kernel.errors import BadState, NotFound, PhoenixError, Retryable
from phoenix_orch.orchestrator.views import RolloutView
from phoenix_orch.rollout.spec import Model
from phoenix_orch.rollout.status import Command, CommandKind, State, under_judgement
from phoenix_orch.runtime.logs import configure_logs
from phoenix_orch.traffic.embedded import ROUTER_GONE

PATIENCE = 2.0
"""Seconds that Phoenix gets to answer, and to act, before the traffic object is changed from here."""
INTERVAL = 0.05
_TAKEN_BACK = frozenset({State.ROLLING_BACK, State.ROLLED_BACK})


class Taken(Model):
    """What came of an abort, as it was seen last."""

    rollout: str
    revision: str
    stable: str = ""
    """The revision that serves."""
    done: bool = False
    """It is latched and gets no requests."""
    latched: bool = False
    """The traffic object says so: nothing gives it requests again without a retry."""
    seen: int | None = None
    """What the router was seen to give it, in per cent of the requests; None: the router does not say."""
    recorded: bool = False
    """Phoenix has it in the status of the rollout."""
    by_hand: bool = False
    """The traffic object was changed past Phoenix."""
    dry_run: bool = False
    problem: str = ""
    """Why it is not done."""
    remedy: str = ""


def text(taken: Taken) -> str:
    """For a person."""
    name, revision = taken.rollout, taken.revision
    if taken.dry_run:
        share = "" if taken.seen is None else f", which gets {taken.seen} % of the requests"
        return f"abort {name}: would be possible: it would abort revision {revision}{share}"
    if taken.seen is None:
        share = "no router runs now, and the next one sends it nothing"
    else:
        share = f"the router sends it nothing, and everything to revision {taken.stable}"
    later = "" if taken.recorded else "\nPhoenix ends the release when it is back"
    return f"abort {name}: revision {revision} is latched; {share}{later}"


def tried(data_dir: Path, name: str) -> Taken:
    """What an abort would do. Raises BadState where it would be refused."""
    try:
        with reaching.client(data_dir, timeout=PATIENCE) as client:
            view = client.rollout(name)
    except Retryable as silent:
        found = _past(silent, data_dir, name, dry_run=True)
        note(f"note: {silent.message}; the traffic object would be changed directly")
        share = 100 if found.state.stable.revision == found.revision else found.state.weight
        return Taken(rollout=name, revision=found.revision, seen=share, by_hand=True, dry_run=True)
    obeying.check(view, CommandKind.ABORT, None)
    revision = under_judgement(view.rollout.status) or ""
    seen = view.seen.share(revision) if view.seen is not None else None
    return Taken(rollout=name, revision=revision, seen=seen, dry_run=True)


def take_back(data_dir: Path, name: str, *, reason: str, within: float) -> Taken:
    """Abort, and wait up to `within` seconds until that is seen to be done.

    Raises BadState where there is nothing to abort, and what keeps the traffic object from being changed
    where Phoenix is not there to do it.
    """
    return _Abort(data_dir, name, reason, within).run()


class _Abort:
    """One abort. `run` it once."""

    def __init__(self, data_dir: Path, name: str, reason: str, within: float) -> None:
        self._data_dir, self._name, self._reason, self._within = data_dir, name, reason, within
        self._client = reaching.client(data_dir, timeout=PATIENCE)
        self._revision = ""
        self._command: Command | None = None
        self._asks = True
        """Phoenix has answered, and can be asked what it does."""
        self._tried = self._by_hand = False
        self._trouble: PhoenixError | None = None
        """Why the traffic object could not be changed from here, or by Phoenix."""
        self._told = ""

    def run(self) -> Taken:
        begun = time.monotonic()
        try:
            self._say()
        except Retryable as silent:
            self._go_past(silent)
        while True:
            taken = self._look()
            if taken.done:
                return taken
            waited = time.monotonic() - begun
            if not self._tried and waited > min(PATIENCE, self._within):
                self._go_past(None)
            elif waited > self._within:
                return self._undone(taken)
            elif waited > PATIENCE:
                self._tell(f"note: not yet: {_words(taken)}")
            time.sleep(INTERVAL)

    def _say(self) -> None:
        """Give Phoenix the word, or find that it is at it already."""
        try:
            self._command = self._client.command(self._name, CommandKind.ABORT, reason=self._reason)
        except BadState:
            status = self._client.rollout(self._name).rollout.status
            if status.state is not State.ROLLING_BACK or status.canary is None:
                raise
            self._revision = status.canary
            note(f"note: {self._name} is being taken back already")
        else:
            self._revision = self._command.revision

    def _go_past(self, silent: Retryable | None) -> None:
        """Change the traffic object from here. Raises what prevents it where Phoenix has no word from us."""
        self._tried = True
        try:
            past = _past(silent, self._data_dir, self._name, revision=self._revision, reason=self._reason)
        except PhoenixError as error:
            if self._command is None and silent is not None:
                raise
            self._trouble = error  # Phoenix has the word, and goes on trying
            return
        self._asks = self._asks and silent is None
        self._by_hand, self._revision = True, past.revision
        why = silent.message if silent else f"Phoenix has not done it within {PATIENCE:g} s"
        note(f"note: {why}; the traffic object was changed directly")
        if past.untold:
            note(f"note: who aborted and why could not be kept: {past.untold}")

    # -- looking -----------------------------------------------------------------------------------

    def _look(self) -> Taken:
        """What is so now. Where Phoenix is silent the traffic object and the router say it."""
        if self._asks:
            try:
                return self._asked()
            except Retryable as silent:
                if not self._tried:
                    self._go_past(silent)
        try:
            return self._seen_from_here()
        except PhoenixError as error:
            self._trouble = error
            return Taken(rollout=self._name, revision=self._revision, by_hand=self._by_hand)

    def _asked(self) -> Taken:
        view = self._client.rollout(self._name)
        status, traffic = view.rollout.status, view.traffic
        recorded = status.state in _TAKEN_BACK and status.canary == self._revision
        if self._command is not None and self._command.id in status.handled and not recorded:
            why = obeying.refused(self._client, self._name, self._command) or status.message
            raise BadState(
                f"{self._name} was not taken back: {why}",
                remedy=f"phoenix rollout status {self._name} shows where it stands",
            )
        self._trouble = _trouble(view) or (self._trouble if self._tried else None)
        latched = traffic is not None and self._revision in traffic.aborted
        seen = view.seen.share(self._revision) if view.seen is not None else None
        return Taken(
            rollout=self._name,
            revision=self._revision,
            stable=traffic.stable.revision if traffic is not None else "",
            done=latched and seen == 0 and (recorded or self._by_hand),
            latched=latched,
            seen=seen,
            recorded=recorded,
            by_hand=self._by_hand,
        )

    def _seen_from_here(self) -> Taken:
        if reaching.elsewhere():
            return self._asked()
        found = offline.look(self._data_dir, self._name, self._revision)
        latched = self._revision in found.state.aborted
        quiet = found.seen == 0 or found.router == ROUTER_GONE
        return Taken(
            rollout=self._name,
            revision=self._revision,
            stable=found.state.stable.revision,
            done=latched and quiet and self._by_hand,
            latched=latched,
            seen=found.seen,
            by_hand=self._by_hand,
        )

    # -- telling -----------------------------------------------------------------------------------

    def _tell(self, words: str) -> None:
        if words != self._told:
            note(words)
        self._told = words

    def _undone(self, taken: Taken) -> Taken:
        """With what is missing, why, and what to do."""
        why, remedy = "Phoenix has not acted on it yet", "`phoenix doctor` tells what is wrong"
        if taken.latched and taken.seen != 0:
            condition = _condition(self._data_dir, self._name, self._revision)
            why = f"the router {condition}" if condition != "ok" else "the router has not followed yet"
        elif self._trouble is not None:
            why, remedy = self._trouble.message, self._trouble.remedy
        follow = f"phoenix rollout status {self._name} shows when it is done"
        goes_on = "Phoenix goes on trying" if self._asks else "`phoenix up` goes on trying"
        return taken.model_copy(
            update={
                "problem": f"{self._name}: {_words(taken)}; {why}",
                "remedy": f"{remedy}; {goes_on}, {follow}",
            }
        )


def _words(taken: Taken) -> str:
    """What is so, and what not."""
    latched = "is latched" if taken.latched else "is not latched"
    if taken.seen is None:
        share = "the router does not say whether it gets requests"
    elif taken.seen == 0:
        share = "it gets no requests"
    else:
        share = f"it still gets {taken.seen} % of the requests"
    recorded = "" if taken.recorded or taken.by_hand else ", and Phoenix has not recorded it"
    return f"revision {taken.revision} {latched}, {share}{recorded}"


def _trouble(view: RolloutView) -> PhoenixError | None:
    """What keeps Phoenix from doing it."""
    found = next((fault for fault in view.faults if fault.at == "abort"), None)
    return Retryable(found.message, remedy=found.remedy) if found is not None else None


def _condition(data_dir: Path, name: str, revision: str) -> str:
    if reaching.elsewhere():
        return "ok"
    try:
        return offline.look(data_dir, name, revision).router
    except PhoenixError as error:
        return f"cannot be asked: {error.message}"


def _past(
    silent: Retryable | None,
    data_dir: Path,
    name: str,
    *,
    revision: str = "",
    reason: str = "",
    dry_run: bool = False,
) -> Aborted:
    """Change the traffic object. Where there is none, that Phoenix is silent is what is wrong."""
    if reaching.elsewhere():
        raise silent or Retryable(
            "Phoenix has not done it yet, and its traffic object is not on this machine",
            remedy="wait for it, or abort on the machine where it runs",
        )
    configure_logs()  # what is told on the way goes to standard error
    try:
        return offline.abort(data_dir, name, revision=revision, reason=reason, dry_run=dry_run)
    except NotFound as error:
        if silent is None:
            raise
        raise type(silent)(f"{silent.message}; and {error.message}", remedy=error.remedy) from error
