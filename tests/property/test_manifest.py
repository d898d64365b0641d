"""Manifests: one sequence of bytes for each, and no other is taken for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from phoenix_orch.kernel.errors import Invalid, Terminal
from phoenix_orch.recovery.layout import Place, Scope, parse, parse_record
from phoenix_orch.recovery.manifest import (
    Drop,
    Link,
    Manifest,
    Stream,
    Times,
    Trigger,
    TriggerKind,
    encoded,
    read_manifest,
)
from phoenix_orch.recovery.signing import Ed25519Signer, Tampered, Trust, signed, signing_key

SIGNER = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(b"p" * 32))
TRUST = Trust([SIGNER.public])
AT = datetime(2026, 11, 28, 10, 15, tzinfo=UTC)
PLACE = Place(Scope("local", "default", "redis/cache"), AT, "0123456789abcdef")
MANIFEST = Manifest(
    id=PLACE.id,
    cluster="local",
    namespace="default",
    component="redis/cache",
    trigger=Trigger(kind=TriggerKind.SCHEDULE, actor="phoenix"),
    phoenix="0.1.0",
    host="one",
    generation=3,
    time=Times(
        slot=AT,
        started=AT,
        consistency_point=AT + timedelta(seconds=1),
        finished=AT + timedelta(seconds=5),
        published=AT + timedelta(seconds=6),
        rpo_seconds=5.0,
    ),
    previous=Link(id="0123456789abcdee", sha256="ab" * 32),
    stream=Stream(
        key=PLACE.data(0, "dump.rdb"),
        name="dump.rdb",
        raw_bytes=1000,
        raw_sha256="cd" * 32,
        stored_bytes=500,
        stored_sha256="ef" * 32,
        codec="zstd",
        level=1,
        encryption="age",
        recipients=("age1a", "age1b"),
    ),
    content={"keys": 17, "name": "ü"},
    measures=("keys",),
    drops=(Drop(measure="keys", value=1, median=17),),
)
RAW = encoded(MANIFEST, SIGNER)


def test_a_manifest_comes_back_as_it_was() -> None:
    assert read_manifest(RAW, PLACE.manifest, TRUST)[0] == MANIFEST


@settings(max_examples=300)
@given(st.integers(0, len(RAW) - 1), st.integers(1, 255))
def test_no_byte_of_it_can_be_another_one(position: int, change: int) -> None:
    raw = bytearray(RAW)
    raw[position] ^= change
    with pytest.raises(Tampered):
        read_manifest(bytes(raw), PLACE.manifest, TRUST)


def test_no_bit_of_it_can_be_flipped() -> None:
    for position in range(len(RAW)):
        raw = bytearray(RAW)
        raw[position] ^= 1 << position % 8
        with pytest.raises(Tampered):
            read_manifest(bytes(raw), PLACE.manifest, TRUST)


@given(st.integers(0, len(RAW) - 1))
def test_it_cannot_be_cut(length: int) -> None:
    with pytest.raises(Tampered):
        read_manifest(RAW[:length], PLACE.manifest, TRUST)


@given(st.integers(0, len(RAW)), st.binary(min_size=1, max_size=40))
def test_nothing_can_be_put_into_it(position: int, more: bytes) -> None:
    with pytest.raises(Tampered):
        read_manifest(RAW[:position] + more + RAW[position:], PLACE.manifest, TRUST)


@given(st.integers(0, len(RAW) - 1), st.integers(0, len(RAW) - 1))
def test_no_two_bytes_can_change_places(first: int, second: int) -> None:
    raw = bytearray(RAW)
    raw[first], raw[second] = raw[second], raw[first]
    if bytes(raw) != RAW:
        with pytest.raises(Tampered):
            read_manifest(bytes(raw), PLACE.manifest, TRUST)


def test_it_counts_in_its_own_place_only() -> None:
    other = Place(PLACE.scope, AT + timedelta(days=1), PLACE.id)
    with pytest.raises(Tampered, match="of another backup"):
        read_manifest(RAW, other.manifest, TRUST)


def test_it_does_not_lead_to_data_of_another_backup() -> None:
    other = Place(PLACE.scope, AT, "f" * 16)
    stream = MANIFEST.stream.model_copy(update={"key": other.data(0, "dump.rdb")})
    raw = encoded(MANIFEST.model_copy(update={"stream": stream}), SIGNER)
    with pytest.raises(Tampered, match="of another backup"):
        read_manifest(raw, PLACE.manifest, TRUST)


def test_a_key_that_is_not_trusted_has_no_word() -> None:
    raw = encoded(MANIFEST, Ed25519Signer(Ed25519PrivateKey.generate()))
    with pytest.raises(Tampered, match="not trusted"):
        read_manifest(raw, PLACE.manifest, TRUST)


def test_the_same_content_in_another_form_is_refused() -> None:
    with pytest.raises(Tampered, match="no record as Phoenix writes them"):
        read_manifest(json.dumps(json.loads(RAW), indent=1).encode(), PLACE.manifest, TRUST)


def test_a_form_of_later_is_refused_with_what_to_do() -> None:
    content = json.loads(RAW)
    del content["signature"]
    raw = signed({**content, "schema": "phoenix-orch.io/backup/v2"}, SIGNER)
    with pytest.raises(Tampered, match="as new as the one that wrote it"):
        read_manifest(raw, PLACE.manifest, TRUST)


def test_keys_that_a_later_phoenix_adds_are_left_out() -> None:
    content = json.loads(RAW)
    del content["signature"]
    raw = signed({**content, "later": {"more": 1}}, SIGNER)
    assert read_manifest(raw, PLACE.manifest, TRUST)[0] == MANIFEST


segments = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
moments = st.datetimes(datetime(1000, 1, 1), datetime(9999, 1, 1)).map(  # noqa: DTZ001
    lambda naive: naive.replace(tzinfo=UTC, microsecond=0)
)


@given(
    st.builds(Scope, segments, segments, st.one_of(segments, st.builds("{}/{}".format, segments, segments))),
    moments,
    st.from_regex(r"[0-9a-z]{16}", fullmatch=True),
    st.integers(0, 9999),
    segments,
)
def test_keys_and_places_lead_to_each_other(
    scope: Scope, moment: datetime, backup: str, attempt: int, name: str
) -> None:
    place = Place(scope, moment, backup)
    manifest, data = parse(place.manifest), parse(place.data(attempt, name))
    assert manifest is not None
    assert (manifest.place, manifest.attempt) == (place, None)
    assert data is not None
    assert (data.place, data.attempt, data.name) == (place, attempt, name)
    record = parse_record(scope.record(backup, f"verified-{backup}"))
    assert record is not None
    assert (record.scope, record.backup, record.kind) == (scope, backup, "verified")


@given(st.text(max_size=200))
def test_what_is_no_key_of_ours_is_none(key: str) -> None:
    assert parse(key) is None
    assert parse(f"v1/{key}") is None
    assert parse_record(f"records/{key}") is None


def test_a_key_in_the_wrong_day_is_none() -> None:
    assert parse(PLACE.manifest.replace("2026/11/28", "2026/11/29")) is None


@pytest.mark.parametrize("component", ["", "a/b/c", "../etc", "redis/", "/redis", "a b", ".hidden"])
def test_what_is_no_component_is_refused(component: str) -> None:
    with pytest.raises(Invalid):
        Scope("local", "default", component)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "a" * 101])
def test_what_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        PLACE.data(0, name)


def test_a_signing_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    first = signing_key(path)
    assert signing_key(path).public == first.public
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["signing.pem"]


def test_a_signing_key_that_is_none_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "signing.pem"
    path.write_text("no key")
    with pytest.raises(Terminal, match="holds no key"):
        signing_key(path)
