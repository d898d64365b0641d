"""Never two leaders: with wrong clocks, late and lost messages, pauses, and a Lease that is deleted.

The decisions are the real ones; API server, network and clocks are the model's. Clocks differ by years and
run up to 2 % too fast or too slow.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_orch.kube.fencing import NotLeading
from phoenix_orch.kube.leader import Leadership
from phoenix_orch.kube.lease import LeaseTiming, Record, Seen, Take, Term, Wait, decide, observe

TIMING = LeaseTiming(duration=15, renew_deadline=10.0, retry=2.0)


@dataclass(eq=False)
class Node:
    name: str
    offset: float
    rate: float
    seen: Seen | None = None
    record: Record | None = None
    """What it believes the Lease to be, for its next renewal."""
    leadership: Leadership | None = None
    acts_from: float = 0.0
    paused: bool = False


@dataclass
class Message:
    """A write under way: it lands whenever the network likes, or never; its answer may get lost."""

    node: Node
    name: str
    """Of the node when it was sent."""
    holder: str
    transitions: int
    based_on: tuple[str, str] | None
    sent: float
    """By the sender's clock."""
    probation: float | None
    """None for a renewal."""


class Election:
    def __init__(self, clocks: list[tuple[float, float]], *, made: bool) -> None:
        self.now = 1000.0
        self.nodes = [Node(f"n{i}", offset, rate) for i, (offset, rate) in enumerate(clocks)]
        self.lease = Record("", 1, 0, "2026-01-01T00:00:00Z", ("u0", "0")) if made else None
        self.made = 0
        self.version = 0
        self.under_way: list[Message] = []
        self.highest: Term | None = None
        self.acted = ""

    def clock(self, node: Node) -> float:
        return node.offset + self.now * node.rate

    def leads(self, node: Node) -> bool:
        return node.leadership is not None and node.leadership.holds

    def do(self, what: str, which: int, delivery: str) -> None:
        """One step of the history."""
        node = self.nodes[which % len(self.nodes)]
        match what:
            case "turn" if not node.paused and self.leads(node):
                assert node.leadership is not None
                self.send(node, node.name, node.leadership.term.transitions, delivery, None)
            case "turn" if not node.paused:
                self.look(node, delivery)
            case "leave" if not node.paused and self.leads(node):
                self.leave(node)
            case "pause":
                node.paused = not node.paused
            case "restart":  # kill -9 and a new process, which has another name and has seen nothing
                node.name += "'"
                node.seen = node.record = node.leadership = None
            case "delete" if self.made < 50:
                self.lease = None
            case "land" if self.under_way:
                self.land(self.under_way.pop(which % len(self.under_way)), answer_lost=delivery != "at once")

    def look(self, node: Node, delivery: str) -> None:
        node.leadership = None
        node.record = self.lease
        now = self.clock(node)
        node.seen = observe(node.seen, self.lease, now)
        decision = decide(node.seen, node.name, now, TIMING)
        if isinstance(decision, Take):
            self.send(node, node.name, decision.transitions, delivery, decision.probation)

    def leave(self, node: Node) -> None:
        """A clean stop: the work has ended, and the Lease says nobody, unless it was too new."""
        assert node.leadership is not None
        if self.clock(node) >= node.acts_from:
            self.send(node, "", node.leadership.term.transitions, "at once", None)
        node.leadership.end()

    def send(self, node: Node, holder: str, transitions: int, how: str, probation: float | None) -> None:
        based_on = node.record.identity if node.record else None
        message = Message(node, node.name, holder, transitions, based_on, self.clock(node), probation)
        if how == "late":
            self.under_way.append(message)
        else:
            self.land(message, answer_lost=how == "answer lost")

    def land(self, message: Message, *, answer_lost: bool) -> None:
        there = self.lease.identity if self.lease else None
        if there != message.based_on:
            return  # 409, or 404
        self.version += 1
        if self.lease is None:
            self.made += 1
            created, uid = f"2026-01-01T00:00:{self.made:02}Z", f"u{self.made}"
        else:
            created, uid = self.lease.created, self.lease.identity[0]
        duration = TIMING.duration if message.holder else 1
        identity = (uid, str(self.version))
        self.lease = Record(message.holder, duration, message.transitions, created, identity)
        node = message.node
        if not answer_lost and not node.paused and node.name == message.name and message.holder:
            self.answered(node, message)

    def answered(self, node: Node, message: Message) -> None:
        assert self.lease is not None
        node.record = self.lease
        until = message.sent + TIMING.renew_deadline
        if message.probation is None:
            if node.leadership is not None and node.leadership.term == self.lease.term:
                node.leadership.extend(until)
        elif node.leadership is None:
            node.leadership = Leadership(self.lease.term, until, lambda: self.clock(node))
            node.acts_from = message.sent + message.probation

    def check(self) -> None:
        """At most one may act, and each who does has a later term than those before."""
        acting = [node for node in self.nodes if self.leads(node) and self.clock(node) >= node.acts_from]
        assert len(acting) <= 1
        for node in acting:
            assert node.leadership is not None
            term = node.leadership.term
            if self.highest is not None and node.name != self.acted:
                assert term > self.highest
            self.highest, self.acted = term, node.name


often, seldom = ["turn"] * 12, ["leave", "pause", "restart", "delete", "land", "land"]
steps = st.tuples(
    st.sampled_from([0.0, 0.0, 0.1, 2.0, 4.0, 7.0, 9.5, 15.5]),
    st.sampled_from(often + seldom),
    st.integers(0, 5),
    st.sampled_from(["at once", "at once", "at once", "at once", "answer lost", "late"]),
)


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.floats(0, 1e8), st.floats(0.98, 1.02)), min_size=2, max_size=3),
    st.booleans(),
    st.lists(steps, min_size=10, max_size=40),
)
def test_never_two_leaders(
    clocks: list[tuple[float, float]], made: bool, history: list[tuple[float, str, int, str]]
) -> None:
    election = Election(clocks, made=made)
    for seconds, what, which, delivery in history:
        election.now += seconds
        election.check()
        election.do(what, which, delivery)
        election.check()


RECORD = Record("other", 15, 4, "2026-01-01T00:00:00Z", ("u1", "7"))


def test_a_holder_that_renews_is_waited_for_from_each_renewal_on() -> None:
    seen = observe(None, RECORD, 100.0)
    assert decide(seen, "me", 100.0, TIMING) == Wait(15.0)
    assert decide(observe(seen, RECORD, 110.0), "me", 110.0, TIMING) == Wait(5.0)
    renewed = Record("other", 15, 4, RECORD.created, ("u1", "8"))
    assert decide(observe(seen, renewed, 110.0), "me", 110.0, TIMING) == Wait(15.0)
    assert decide(seen, "me", 115.0, TIMING) == Take(5, 0.0)


def test_a_holder_that_says_longer_is_waited_for_longer() -> None:
    seen = observe(None, Record("other", 60, 4, RECORD.created, RECORD.identity), 0.0)
    assert decide(seen, "me", 15.0, TIMING) == Wait(45.0)


@pytest.mark.parametrize("holder", ["", "me"])
def test_a_lease_that_is_nobodys_or_mine_is_taken_at_once(holder: str) -> None:
    seen = observe(None, Record(holder, 1, 4, RECORD.created, RECORD.identity), 0.0)
    assert decide(seen, "me", 0.0, TIMING) == Take(5, 0.0)


def test_a_lease_that_is_gone_is_made_anew_and_its_maker_waits() -> None:
    seen = observe(observe(None, RECORD, 0.0), None, 1.0)
    assert decide(seen, "me", 1.0, TIMING) == Take(5, 15.0)
    mine = Record("me", 15, 5, "2026-01-01T00:01:00Z", ("u2", "9"))
    # the answer to that write was lost; the wait is not
    assert decide(observe(seen, mine, 3.0), "me", 3.0, TIMING) == Take(6, 13.0)


@pytest.mark.parametrize(
    ("duration", "deadline", "retry"), [(15, 14.5, 2), (15, 10, 10), (15, 10, 0), (1, 0.5, 0.1)]
)
def test_timings_that_are_not_safe_are_refused(duration: int, deadline: float, retry: float) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        LeaseTiming(duration, deadline, retry)


@given(st.datetimes(), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_terms_are_ordered(moment: object, one: int, other: int) -> None:
    created = f"{moment:%Y}".zfill(4) + f"{moment:-%m-%dT%H:%M:%SZ}"
    assert (Term(created, one) < Term(created, other)) == (one < other)


def test_who_does_not_lead_has_no_time_left() -> None:
    now = 0.0
    leadership = Leadership(Term("2026-01-01T00:00:00Z", 1), 10.0, lambda: now)
    assert leadership.remaining() == 10.0
    leadership.extend(5.0)  # an answer that comes late takes nothing away
    assert leadership.remaining() == 10.0
    now = 10.0
    assert not leadership.holds
    with pytest.raises(NotLeading):
        leadership.remaining()
