"""Claims to grants, for whatever a provider may write into them."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from phoenix_orch.security.claims import ClaimGrant, Expected, fault, granted, principal
from phoenix_orch.security.rights import EVERYWHERE, Grant, Kind, Right, Role, allows

NAMES = st.sampled_from(["groups", "roles", "a.b", "sub", "iss"])
VALUES = st.sampled_from(["ops", "dev", "", "a"])
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | VALUES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)
CLAIMS = st.dictionaries(NAMES | st.sampled_from(["a", "aud", "exp", "nbf", "iat"]), ANYTHING, max_size=6)
GRANTS = st.builds(Grant, st.sampled_from(Role), st.sampled_from([EVERYWHERE, "default", "shop"]))
RULES = st.lists(
    st.builds(ClaimGrant, NAMES, VALUES, st.lists(GRANTS, min_size=1, max_size=2).map(tuple)), max_size=5
)
EXPECTED = Expected("https://provider.example", "phoenix")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@given(CLAIMS, RULES)
def test_nothing_is_granted_that_no_rule_gives(claims, rules):
    grants = granted(claims, rules)
    assert set(grants) <= {grant for rule in rules for grant in rule.grants}
    assert len(set(grants)) == len(grants)


@given(CLAIMS)
def test_without_rules_everybody_may_do_nothing(claims):
    somebody = principal({**claims, "sub": "4711"}, (), "name")
    assert not any(allows(somebody, right, EVERYWHERE) for right in Right)


@given(CLAIMS, RULES, st.data())
def test_another_rule_takes_nothing_away(claims, rules, data):
    more = data.draw(RULES)
    assert set(granted(claims, rules)) <= set(granted(claims, [*rules, *more]))


@given(st.lists(VALUES, max_size=4), RULES)
def test_a_list_grants_what_its_members_grant(values, rules):
    together = set(granted({"groups": values}, rules))
    assert together == {grant for value in values for grant in granted({"groups": value}, rules)}


@given(CLAIMS)
def test_whatever_is_claimed_has_a_fault_or_counts(claims):
    """Nothing of what strangers write breaks it."""
    told = fault(claims, EXPECTED, NOW)
    assert told is None or isinstance(told, str)
    if claims.get("iss") != EXPECTED.issuer:
        assert told is not None


@given(st.text(min_size=1, max_size=30), st.text(max_size=30) | ANYTHING)
def test_two_subjects_never_have_one_name(shown, other):
    """Whatever they call themselves."""
    first = principal({"sub": "4711", "name": shown}, (), "name")
    second = principal({"sub": "4712", "name": other}, (), "name")
    assert first.key != second.key
    assert first.kind is Kind.OIDC
    assert first.name.isprintable()


def test_dots_lead_into_claims_and_a_claim_with_dots_goes_before():
    rule = ClaimGrant("realm.roles", "ops", (Grant(Role.ADMIN),))
    assert granted({"realm": {"roles": ["ops"]}}, [rule]) == (Grant(Role.ADMIN),)
    assert granted({"realm.roles": ["dev"], "realm": {"roles": ["ops"]}}, [rule]) == ()
    assert granted({"realm": ["roles", "ops"]}, [rule]) == ()
