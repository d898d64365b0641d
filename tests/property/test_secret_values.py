"""Sealed values: read back by who has a key, by nobody else, and refused when anything was changed."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

import pyrage
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.recovery import value_digests
from phoenix_orch.recovery.errors import Corrupted, WrongKey
from phoenix_orch.recovery.secret_values import opened, opened_bytes, recipients_of, sealed, sealed_bytes

AT = datetime(2026, 11, 28, 10, tzinfo=UTC)
ONLINE, OFFLINE, STRANGER = (pyrage.x25519.Identity.generate() for _ in range(3))
TO = [str(one.to_public()) for one in (ONLINE, OFFLINE)]
KEY = bytes(range(32))

NAMES = st.text("abcXYZ019-._", min_size=1, max_size=12)
VALUES = st.binary(max_size=24).map(lambda value: base64.b64encode(value).decode()) | st.sampled_from(
    ["1234", "true", "", "null", "2026-01-01"]
)
LABELS = st.dictionaries(NAMES | st.just("data"), VALUES, max_size=2)
SECRETS = st.builds(
    lambda name, labels, data, immutable: {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": labels},
        "data": data,
        **({"immutable": True} if immutable else {}),
    },
    NAMES,
    LABELS,
    st.dictionaries(NAMES, VALUES, max_size=3),
    st.booleans(),
)
ONE = {
    "kind": "Secret",
    "metadata": {"name": "db", "labels": {"tier": "gold"}},
    "data": {"a": "aHVudGVy", "b": "eA=="},
}


@given(SECRETS)
@settings(deadline=None)
def test_each_of_the_keys_opens_what_was_sealed(document):
    text = sealed(document, TO, AT)
    assert opened(text, [ONLINE]) == document
    assert opened(text.encode(), [STRANGER, OFFLINE]) == document
    assert recipients_of(text) == TO
    with pytest.raises(WrongKey, match="none of the keys"):
        opened(text, [STRANGER])


@given(st.binary(max_size=200))
@example(b"\xff\x00")
@settings(deadline=None)
def test_a_file_comes_back_byte_for_byte(content):
    assert opened_bytes(sealed_bytes(content, TO, AT), [ONLINE]) == content


@given(st.text("bcdefghij", min_size=10, max_size=30))
@settings(deadline=None)
def test_no_value_and_no_form_of_it_is_in_the_text(value):
    of_api = base64.b64encode(value.encode()).decode()
    document = {
        "kind": "Secret",
        "metadata": {"name": "db"},
        "data": {"a": of_api},
        "stringData": {"a": value},
    }
    digests = value_digests.of_document(document, "shop/Secret/db.yaml", KEY, TO)
    for text in (sealed(document, TO, AT), digests, sealed_bytes(value.encode(), TO, AT).decode()):
        assert value not in text
        assert of_api not in text


TEXT = sealed(ONE, TO, AT)


def covered(document):
    """What sops' MAC is over: all values in the order of the file; names in clear are no part of it."""
    if isinstance(document, dict):
        return "".join(map(covered, document.values()))
    return "" if document is None else str(document)


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="ascii"))
@settings(deadline=None, max_examples=400)
def test_whatever_character_is_changed_nothing_false_is_read(place, other):
    """What another text says is refused, or says the same: white space, or an envelope of another key."""
    tampered = TEXT[:place] + other + TEXT[place + 1 :]
    try:
        found = opened(tampered, [ONLINE])
    except (Corrupted, WrongKey):
        return
    assert covered(found) == covered(opened(TEXT, [ONLINE]))
    assert found.get("data") == ONE["data"]


@given(st.integers(0, len(TEXT) - 2))
@settings(deadline=None, max_examples=150)
def test_a_text_that_was_cut_is_refused(length):
    """Nothing follows the last line but the pattern of names, so that any cut is seen."""
    try:
        found = opened(TEXT[:length], [ONLINE])
    except (Corrupted, WrongKey):
        return
    assert found == ONE


def test_every_character_of_sealed_values_counts():
    for found in re.finditer(r"ENC\[AES256_GCM,data:([^,]+),iv:([^,]+),tag:([^,]+)", TEXT):
        for group in (1, 2, 3):
            place = found.start(group)
            other = "A" if TEXT[place] != "A" else "B"
            with pytest.raises(Corrupted, match="is not what was sealed"):
                opened(TEXT[:place] + other + TEXT[place + 1 :], [ONLINE])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("gold", "lead"),
        ("name: db", "name: dx"),
        ("tier: gold", "tier: gold\n    more: x"),
        ("  a: ", "  c: "),
    ],
)
def test_what_is_in_clear_is_sealed_too(old, new):
    assert TEXT.count(old) == 1
    with pytest.raises(Corrupted):
        opened(TEXT.replace(old, new), [ONLINE])


def test_values_that_changed_places_are_refused():
    first, second = re.findall(r"ENC\[[^\]]+\]", TEXT)[:2]
    swapped = TEXT.replace(first, "?").replace(second, first).replace("?", second)
    with pytest.raises(Corrupted, match=r"data\.a is not what was sealed"):
        opened(swapped, [ONLINE])


def test_a_value_in_clear_where_a_sealed_one_belongs_is_refused():
    sealed_value = re.search(r"\"ENC\[[^\]]+\]\"", TEXT)
    assert sealed_value
    with pytest.raises(Corrupted, match="is not sealed"):
        opened(TEXT.replace(sealed_value.group(), '"eA=="'), [ONLINE])


def test_two_writings_share_no_key():
    """Whoever learns the key of one version reads no other one."""
    first, second = (set(re.findall(r"GCM,data:([^,]+)", text)) for text in (TEXT, sealed(ONE, TO, AT)))
    assert first
    assert first.isdisjoint(second)


@pytest.mark.parametrize(
    "text", ["", "a", "[]", "a: [", "{}", "data: {a: x}", "data: {}\nsops: 1", "sops: {age: x}"]
)
def test_what_is_no_sealed_file_is_refused(text):
    with pytest.raises(Corrupted):
        opened(text, [ONLINE])
    with pytest.raises(Corrupted):
        opened_bytes(text.encode(), [ONLINE])


def test_what_cannot_be_sealed_is_refused():
    with pytest.raises(Invalid, match="nobody to seal"):
        sealed(ONE, [], AT)
    with pytest.raises(Invalid, match="no age recipient"):
        sealed(ONE, ["age1nonsense"], AT)
    with pytest.raises(Invalid, match="a field sops"):
        sealed({**ONE, "sops": {}}, TO, AT)
    with pytest.raises(Invalid, match=r"data\.a is float"):
        sealed({"data": {"a": 1.5}}, TO, AT)


# -- digests ---------------------------------------------------------------------------------------


@given(SECRETS, SECRETS)
def test_signs_are_equal_exactly_when_documents_are(one, other):
    first, second = (value_digests.of_document(each, "a", KEY, TO) for each in (one, other))
    assert (first == second) is (one == other)


def test_signs_tell_which_value_changed_and_no_two_places_share_one():
    changed = {**ONE, "data": {"a": "aHVudGVy", "b": "eQ=="}}
    one, other = (
        value_digests.read(value_digests.of_document(each, "a", KEY, TO)) for each in (ONE, changed)
    )
    assert {name for name in one if one[name] != other[name]} == {"data.b"}
    same = value_digests.read(value_digests.of_document({"data": {"a": "x", "b": "x"}}, "a", KEY, TO))
    assert same["data.a"] != same["data.b"]
    assert (
        same["data.a"]
        != value_digests.read(value_digests.of_document({"data": {"a": "x"}}, "b", KEY, TO))["data.a"]
    )


def test_another_key_or_another_recipient_is_another_file_of_signs():
    first = value_digests.of_document(ONE, "a", KEY, TO)
    assert first != value_digests.of_document(ONE, "a", bytes(32), TO)
    assert first != value_digests.of_document(ONE, "a", KEY, TO[:1])
    assert first == value_digests.of_document(ONE, "a", KEY, TO[::-1])
    assert value_digests.key_of(first) == value_digests.key_id(KEY)
