"""No secret is seen through a mask, wherever it stands and whatever it is made of."""

from __future__ import annotations

import json
import re
import string

import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from pydantic import ValidationError

from phoenix_orch.kernel import masking
from phoenix_orch.kernel.masking import (
    MASK,
    Masker,
    looks_secret,
    masked_assignments,
    masked_text,
    masked_url,
    masked_words,
    masks_in,
    told,
)
from phoenix_orch.kernel.secrets import Secrets, secrets_of
from phoenix_orch.kernel.text import plain
from phoenix_orch.rollout.spec import RolloutSpec

CANARY = "s3cr3tCanary"
"""Part of every secret below; nothing else holds it."""
AROUND = st.text(st.characters(codec="utf-8", exclude_categories=["Zs", "Zl", "Zp", "Cc", "Cf"]), max_size=5)
SECRETS = st.builds(lambda before, after: f"{before}{CANARY}{after}", AROUND, AROUND)
HOSTS = st.sampled_from(["127.0.0.1", "[::1]:8080", "shop.example.com:443", "{canary}", "db"])
SCHEMES = st.sampled_from(["http://", "https://", "postgresql+asyncpg://", "redis://"])
PATHS = st.sampled_from(["", "/", "/cart/selftest", "/@user/x"])


@given(SCHEMES, SECRETS, HOSTS, PATHS)
def test_neither_user_nor_password_of_an_address_is_shown(scheme, secret, host, path):
    for login in (f"user:{secret}", secret, f"{secret}:x", f":{secret}"):
        shown = masked_url(f"{scheme}{login}@{host}{path}")
        assert CANARY not in shown
        assert shown.startswith(scheme)
        assert masked_url(shown) == shown


@given(st.sampled_from(["http://h", "{canary}", "{route}/x", "/x", "https://h:1/a"]), SECRETS)
def test_no_value_of_a_query_is_shown(base, secret):
    assume("=" not in secret)  # what is before it would be the name
    for query in (f"?token={secret}", f"?{secret}", f"?a=1&b={secret}", f"?a;b={secret}", f"#{secret}"):
        shown = masked_url(base + query)
        assert CANARY not in shown
        assert masked_url(shown) == shown


@given(SCHEMES, SECRETS, HOSTS, st.sampled_from(["", "(", "see ", "'", '{"url":"', "a@b "]))
def test_addresses_are_found_in_text(scheme, secret, host, before):
    for address in (
        f"{scheme}user:{secret}@{host}/x",
        f"{scheme}{secret}@{host}",
        f"{scheme}{host}/x?token={secret}",
        f"user:{secret}@{host}",
        f"{{canary}}/x?token={secret}",
    ):
        shown = masked_text(f"{before}{address}: status 503, expected 200")
        assert CANARY not in shown
        assert shown.endswith(" status 503, expected 200")
        assert masked_text(shown) == shown


@given(st.text())
def test_masking_twice_is_masking_once(text):
    for mask in (masked_text, masked_url, told, masked_assignments):
        assert mask(mask(text)) == mask(text)


@given(
    st.sampled_from(["password", "DB_PASS", "apiKey", "X-Api-Key", "client_secret", "AUTH", "token"]),
    st.sampled_from(["=", ": ", " = ", ":", "' => '", '": "', ' := "', r"\": \""]),
    st.text(string.ascii_letters + string.digits + "/+=.~", max_size=5),
    st.sampled_from(["", "error: ", "note=1 ", "{'a': 1, '", '{"', "--"]),
)
def test_what_is_given_to_a_secret_looking_name_is_masked(name, sign, around, before):
    text = f"{before}{name}{sign}{around}{CANARY}{around} and more"
    assert CANARY not in masked_assignments(text)


_PIECES = st.sampled_from(["password", "key", "PIN", "x" * 70, "9" * 70, "=>", ":=", *"a9_.\\é\n \t=:\"'"])
_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_.-]{0,63})\\?[\"']?[ \t]{0,3}(?:=>|:=|=|:)[ \t]{0,3}")


def _from_the_front(text: str) -> str:
    """Names with their values, looked for as one would write it down: slow where a line has no sign in it."""
    found = _NAMED.search(text)
    if found is None:
        return text
    at = found.end()
    if looks_secret(found.group(1)) and (value := masking._GIVEN.match(text, at).group()):
        return text[:at] + MASK + _from_the_front(text[at + len(value) :])
    return text[:at] + _from_the_front(text[at:])


@given(st.lists(_PIECES, max_size=15).map("".join))
def test_names_are_found_as_if_they_were_looked_for_from_the_front(text):
    assert masked_assignments(text) == _from_the_front(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cart is empty", "cart is empty"),
        ("Authorization: Basic czNjcjN0 x", "Authorization: <masked>"),
        ("< Set-Cookie: a=b; c", "< Set-Cookie: <masked>"),
        ("curl -H 'x: Bearer abc.def' now", "curl -H 'x: Bearer <masked> now"),
        ("run --password hunter2 --port 80", "run --password <masked> --port 80"),
        ("password='two words' kept", "password=<masked> kept"),
        ('password="never closed, so all of it', "password=<masked>"),
        ("passed: 3", "passed: 3"),
        ("status: 503, retries: 2", "status: 503, retries: 2"),
        ("monkey=business", "monkey=business"),
    ],
)
def test_text_of_others(text, shown):
    assert masked_assignments(text) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://127.0.0.1:20001/cart", "http://127.0.0.1:20001/cart"),
        ("{canary}/cart?deep=1", "{canary}/cart?deep=<masked>"),
        (
            "http://user:pw@host:1/x?a=b&c=&d#e",
            "http://<masked>@host:1/x?a=<masked>&<masked>&<masked>#<masked>",
        ),
        ("http://user:p/w@host/x", "http://<masked>@host/x"),
        ("http://user:p?w@host/x", "http://<masked>"),
        ("http://user:p@w@host/x", "http://<masked>@host/x"),
        ("{route}/@me", "{route}<masked>@me"),
        ("", ""),
    ],
)
def test_addresses(url, shown):
    assert masked_url(url) == shown


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("app", "--port", "{port}"), ("app", "--port", "{port}")),
        (("app", "--password", "x", "--port", "1"), ("app", "--password", MASK, "--port", "1")),
        (("app", "--token=x"), ("app", "--token=<masked>")),
        (("env", "DB_PASS=x", "app"), ("env", "DB_PASS=<masked>", "app")),
        (("sh", "-c", "TOKEN=x exec app {port}"), ("sh", "-c", "TOKEN=<masked> exec app {port}")),
        (("app", "redis://:x@db/0"), ("app", "redis://<masked>@db/0")),
        (("app", "--secret", "--verbose"), ("app", "--secret", "--verbose")),
    ],
)
def test_command_lines(words, shown):
    assert masked_words(words) == shown


def test_names_that_look_secret():
    for name in (
        "PASSWORD",
        "dbPassword",
        "API_KEY",
        "apikey",
        "GITHUB_TOKEN",
        "client-secret",
        "PGPASSFILE_PASS",
        "AUTH",
        "DSN",
        "AWS_SECRET_ACCESS_KEY",
        "MYSQL_PWD",
        "cookie",
    ):
        assert looks_secret(name), name
    for name in ("LOG_LEVEL", "PORT", "HOST", "passed", "monkey", "compass", "author", "keyboard", "status"):
        assert not looks_secret(name), name


# -- known values ----------------------------------------------------------------------------------

FORMS = (
    str,
    repr,
    json.dumps,
    lambda value: value.encode("unicode_escape").decode(),
    lambda value: f"x{value}y",
    lambda value: value[: len(value) // 2] + "\x1b[0m" + value[len(value) // 2 :],
)


@given(SECRETS, st.sampled_from(["PASSWORD", "ANYTHING"]), st.sampled_from(FORMS), AROUND)
def test_known_values_are_found_in_every_form(secret, name, form, before):
    assume(all(character.isprintable() for character in secret))
    known = Secrets(secrets_of({name: secret}))
    assert secret not in known.harmless(f"{before} {form(secret)} failed")


@given(st.text(max_size=30), st.dictionaries(st.text("AB_", min_size=1), st.text(max_size=12)))
def test_what_is_harmless_is_one_line_without_controls(text, env):
    shown = Secrets(secrets_of(env)).harmless(text)
    assert plain(shown) == shown


def test_values_of_several_lines_and_of_addresses():
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqh\nkiG9w0BAQEFAASCBK\n-----END PRIVATE KEY-----\n"
    known = Secrets(
        secrets_of(
            {"K": key, "URL": "postgres://me:hunter2@db/x?sslpassword=hunter3"},
            urls=["http://h/?token=hunter4&deep=1"],
        )
    )
    said = "line kiG9w0BAQEFAASCBK; hunter2, hunter3 and hunter4; deep 1"
    assert known.harmless(said) == "line <masked>; <masked>, <masked> and <masked>; deep 1"


def test_short_and_common_values_stay_readable():
    known = Secrets(secrets_of({"LEVEL": "info", "DEBUG_KEY": "true", "PIN": "12"}))
    assert known.harmless("info: true, 12 of 12") == "info: true, 12 of 12"
    assert Secrets().harmless("all well") == "all well"


# -- answers ---------------------------------------------------------------------------------------

NAMES = st.text(string.ascii_letters + "_", min_size=1, max_size=8)


@given(st.dictionaries(NAMES, SECRETS), st.booleans())
def test_no_value_of_an_environment_leaves(env, signed):
    masker = Masker(b"k" * 32 if signed else None)
    data = {"template": {"env": env, "command": ["app"]}, "checks": [{"exec": {"env": env}}]}
    shown = masker.data(data)
    assert CANARY not in json.dumps(shown)
    assert list(shown["template"]["env"]) == list(env)
    assert masker.data(shown) == shown
    if env:
        assert len(list(masks_in(shown))) == 2 * len(env)


@given(st.text(), st.text())
def test_signs_tell_values_apart_and_nothing_else(one, other):
    masker, elsewhere = Masker(b"a" * 32), Masker(b"b" * 32)
    assume("<masked" not in one + other)
    assert (masker.value("N", one) == masker.value("N", other)) == (one == other)
    assert masker.value("N", one) != masker.value("M", one)
    assert masker.value("N", one) != elsewhere.value("N", one)


HEADS = st.sampled_from(["{canary}", "{route}", "http://", "https://"])
WORDS = st.text(st.sampled_from("a/:@?#&=;{}<> %.-\\'\"x0")) | st.text(max_size=8)


@given(HEADS, WORDS, st.lists(WORDS, min_size=1, max_size=4), st.dictionaries(NAMES, WORDS, max_size=2))
def test_what_is_masked_is_still_a_rollout(head, rest, words, env):
    """The client reads answers with the models they were made from."""
    checks = [
        {"name": "a", "http": {"url": head + rest}},
        {"name": "b", "exec": {"command": words, "env": env}},
    ]
    try:
        spec = RolloutSpec.model_validate({"checks": checks, "verify": {"logs": {"bad": ["(a?b=c)"]}}})
    except ValidationError:
        reject()
    shown = Masker(b"k" * 32).data(spec.model_dump(mode="json", by_alias=True))
    again = RolloutSpec.model_validate(shown)
    assert [check.name for check in again.checks] == ["a", "b"]
    assert again.verify == spec.verify


def test_addresses_commands_and_numbers_in_answers():
    shown = Masker().data(
        {
            "url": "http://u:p@h/",
            "command": ["app", "--password", "x"],
            "reason": "http://u:p@h/: status 503",
            "bad": ["a?b=c"],
            "labels": {"env": "prod"},
            "e": float("inf"),
            "n": 1,
            "none": None,
        }
    )
    assert shown == {
        "url": "http://<masked>@h/",
        "command": ["app", "--password", "<masked>"],
        "reason": "http://<masked>@h/: status 503",
        "bad": ["a?b=c"],
        "labels": {"env": "prod"},
        "e": "Infinity",
        "n": 1,
        "none": None,
    }
    assert list(masks_in({"a": [1, "x<masked>"], "b": "<masked:00ff00ff>"})) == [("a", 1), ("b",)]
