"""Roles, grants, tokens, sessions and buckets: who is let in, and where."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from phoenix_orch.security import tokens
from phoenix_orch.security.buckets import Buckets, Rate
from phoenix_orch.security.rights import EVERYWHERE, Grant, Kind, Principal, Right, Role, allows
from phoenix_orch.security.sessions import Invited, Limits, Sessions

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ME = Principal("me", Kind.USER, (Grant(Role.ADMIN),))


class Watch:
    """A clock that a test moves."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("right", list(Right))
def test_a_role_has_its_right_and_all_below(role, right):
    has = list(Right).index(right) <= list(Role).index(role)
    principal = Principal("x", Kind.TOKEN, (Grant(role, "shop"),))
    assert allows(principal, right, "shop") is has
    assert not allows(principal, right, "other")
    assert not allows(principal, right, EVERYWHERE)
    everywhere = Principal("x", Kind.TOKEN, (Grant(role),))
    assert allows(everywhere, right, "shop") is allows(everywhere, right, EVERYWHERE) is has


def test_nobody_has_a_right_without_a_grant():
    assert not any(allows(Principal("x", Kind.OIDC), right, EVERYWHERE) for right in Right)


def minted(**changed):
    given = {"maker": "user:me", "now": NOW, "lasting": timedelta(hours=1)} | changed
    return tokens.mint("ci", (Grant(Role.OPERATOR),), **given)


def test_a_token_lets_in_until_it_expires_or_is_revoked():
    made = minted()
    known = {made.token.id: made.token}
    assert tokens.found(known, made.text, NOW) is made.token
    assert tokens.found(known, made.text, NOW + timedelta(minutes=59, seconds=59))
    assert tokens.found(known, made.text, NOW + timedelta(hours=1)) is None
    revoked = {made.token.id: made.token.model_copy(update={"revoked": NOW})}
    assert tokens.found(revoked, made.text, NOW) is None
    assert tokens.found({}, made.text, NOW) is None


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text.upper(),
        lambda text: text.removeprefix("phx_"),
        lambda text: text[:14],
        lambda text: text[:15],
        lambda _: "",
        lambda _: "phx_",
        lambda _: "phx__",
        lambda text: text.replace(text[4:14], "0000000000"),
        lambda text: text + "\ud800",
    ],
)
def test_nothing_like_a_token_lets_in(spoilt):
    made = minted()
    assert tokens.found({made.token.id: made.token}, spoilt(made.text), NOW) is None


def test_what_is_kept_of_a_token_does_not_hold_its_secret():
    made = minted()
    secret = made.text.split("_", 2)[2]
    assert len(secret) == 43
    assert secret not in made.token.model_dump_json()
    assert secret not in repr(made)


def test_secrets_are_compared_in_constant_time(monkeypatch):
    """Of a token that is known and of one that is not."""
    compared = []
    monkeypatch.setattr(
        tokens.hmac, "compare_digest", lambda one, other: compared.append((one, other)) or one == other
    )
    made = minted()
    tokens.found({made.token.id: made.token}, made.text, NOW)
    tokens.found({}, made.text, NOW)
    assert len(compared) == 2
    assert {len(text) for pair in compared for text in pair} == {64}


def test_the_last_admin_is_known():
    admins = [
        tokens.mint(name, (Grant(Role.ADMIN),), maker="user:me", now=NOW, lasting=None).token
        for name in ("a", "b")
    ]
    other = minted().token
    both = {one.id: one for one in (*admins, other)}
    assert not tokens.last_admin(both, admins[0].id, NOW)
    one = both | {admins[1].id: admins[1].model_copy(update={"revoked": NOW})}
    assert tokens.last_admin(one, admins[0].id, NOW)
    assert not tokens.last_admin(one, other.id, NOW)
    assert not tokens.last_admin(one, admins[1].id, NOW)


def test_the_last_use_is_written_down_once_a_minute():
    token = minted().token
    assert tokens.is_due(token, NOW)
    used = token.model_copy(update={"last_used": NOW})
    assert not tokens.is_due(used, NOW + timedelta(seconds=59))
    assert tokens.is_due(used, NOW + timedelta(minutes=1))


def test_a_session_ends_when_nobody_uses_it_and_after_its_time():
    watch = Watch()
    sessions = Sessions(watch, Limits(idle=timedelta(minutes=10), absolute=timedelta(minutes=25)))
    name, _ = sessions.begin(ME)
    for _ in range(2):
        watch.now += timedelta(minutes=9)
        assert sessions.find(name).principal == ME
    watch.now += timedelta(minutes=7)
    assert sessions.find(name) is None
    name, _ = sessions.begin(ME)
    watch.now += timedelta(minutes=10)
    assert sessions.find(name) is None


def test_a_session_does_not_outlive_what_it_was_begun_with():
    watch = Watch()
    sessions = Sessions(watch)
    name, _ = sessions.begin(ME, credential="token:1", until=NOW + timedelta(minutes=5))
    kept, _ = sessions.begin(ME, credential="token:2")
    watch.now += timedelta(minutes=5)
    assert sessions.find(name) is None
    assert [one.credential for one in sessions.end_of("token:2")] == ["token:2"]
    assert sessions.find(kept) is None


def test_every_login_gives_another_name_and_the_store_knows_none():
    sessions = Sessions(Watch())
    name, session = sessions.begin(ME)
    other, _ = sessions.begin(ME)
    assert name != other
    assert name not in repr(session)
    assert sessions.find(session.key) is None
    sessions.end(session)
    assert sessions.find(name) is None
    assert sessions.find(other) is not None


def test_a_code_lets_in_once_and_soon():
    watch = Watch()
    sessions = Sessions(watch)
    code = sessions.code(ME)
    assert sessions.redeem(code) == Invited(ME, "")
    assert sessions.redeem(code) is None
    late = sessions.code(ME)
    watch.now += timedelta(minutes=1)
    assert sessions.redeem(late) is None
    assert sessions.redeem("") is None


def test_a_bucket_gives_its_burst_and_then_its_rate():
    buckets = Buckets(Rate(burst=3, per_second=2))
    assert [buckets.take("a", 10.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("b", 10.0) == 0
    assert buckets.wait("a", 10.25) == pytest.approx(0.25)
    assert buckets.take("a", 10.5) == 0
    assert buckets.take("a", 10.0) > 0, "a clock that went back fills nothing"
    assert [buckets.take("a", 100.0) for _ in range(4)] == [0, 0, 0, 0.5]


def test_buckets_forget_those_that_were_not_used_for_longest():
    buckets = Buckets(Rate(burst=1, per_second=0.001), most=2)
    for name in "aba":
        buckets.take(name, 0.0)
    buckets.take("c", 0.0)
    assert buckets.wait("b", 0.0) == 0
    assert buckets.wait("a", 0.0) > 0
