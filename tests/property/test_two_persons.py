"""However people ask, answer and act, and however time passes: nobody destroys alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from phoenix_orch.kernel.errors import BadState, Forbidden
from phoenix_orch.security import two_persons
from phoenix_orch.security.rights import Kind, Principal
from phoenix_orch.security.two_persons import LASTS, Approvals, State

ANNA, BEN = Principal("anna", Kind.OIDC), Principal("ben", Kind.OIDC)
TOKEN_OF_ANNA = Principal("ci", Kind.TOKEN, maker=ANNA.key)
people = st.sampled_from([ANNA, BEN, TOKEN_OF_ANNA])
targets = st.sampled_from(["token/1", "token/2"])


class TwoPersons(RuleBasedStateMachine):
    names = Bundle("names")

    def __init__(self):
        super().__init__()
        self.known = Approvals()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.made = 0
        self.agreed: dict[str, tuple[str, datetime]] = {}
        """Who approved what, and when."""

    @rule(target=names, by=people, aim=targets)
    def ask(self, by, aim):
        self.made += 1
        self.known, one = two_persons.ask(
            self.known, f"a{self.made}", "token.revoke", aim, by=by, reason="", now=self.now
        )
        assert one.state in two_persons.WAITING
        return one.id

    @rule(name=names, by=people, agrees=st.booleans())
    def answer(self, name, by, agrees):
        before = two_persons.named(self.known, name, self.now)
        try:
            self.known, one = two_persons.answer(
                self.known, name, by=by, agrees=agrees, words="", now=self.now
            )
        except BadState:
            assert before.state is not State.ASKED
        except Forbidden:
            assert agrees
            assert by.person == before.asker
        else:
            assert before.state is State.ASKED
            if agrees:
                self.agreed[one.id] = (by.person, self.now)

    @rule(by=people, aim=targets)
    def act(self, by, aim):
        before = self.known.at(self.now)
        self.known, used = two_persons.use(self.known, "token.revoke", aim, by=by, now=self.now)
        if used is None:
            return
        assert before.approvals[used.id].state is State.APPROVED
        second, when = self.agreed.pop(used.id)
        assert second != by.person
        assert used.target == aim
        assert used.asker == by.person
        assert self.now - when < LASTS

    @rule(passed=st.integers(0, 20))
    def wait(self, passed):
        self.now += timedelta(minutes=passed)

    @invariant()
    def nobody_waits_for_ever(self):
        late = self.known.at(self.now + LASTS)
        assert not any(one.state in two_persons.WAITING for one in late.approvals.values())


TestTwoPersons = TwoPersons.TestCase


def test_those_that_wait_are_not_forgotten_for_new_ones(monkeypatch):
    monkeypatch.setattr(two_persons, "MOST_KEPT", 3)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    known = Approvals()
    for number in range(6):
        known, _ = two_persons.ask(
            known, f"a{number}", "token.revoke", f"token/{number}", by=ANNA, reason="", now=now
        )
        if number % 2:
            known, _ = two_persons.answer(known, f"a{number}", by=BEN, agrees=False, words="", now=now)
    assert set(known.approvals) == {"a0", "a2", "a4"}


def test_nobody_asks_without_an_end():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    known = Approvals()

    def asked(number: int, by: Principal, at: datetime = now) -> Approvals:
        return two_persons.ask(known, f"{by.name}{number}", "x.y", f"t/{number}", by=by, reason="", now=at)[0]

    for number in range(two_persons.MOST_ASKED):
        known = asked(number, ANNA if number % 2 else TOKEN_OF_ANNA)
    for by in (ANNA, TOKEN_OF_ANNA):
        with pytest.raises(BadState, match="wait for a second person already"):
            asked(-1, by)
    assert asked(0, ANNA) == known  # the same again is no new one
    known = asked(0, BEN)
    known = two_persons.answer(known, "ci0", by=ANNA, agrees=False, words="", now=now)[0]
    known = asked(-1, ANNA)
    assert len(asked(-2, ANNA, now + LASTS).at(now + LASTS).approvals) == two_persons.MOST_ASKED + 3
