"""Tokens that an identity provider signed, and those that only look so; logins by way of it."""

from __future__ import annotations

import base64
import hmac
import json

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from tests.identity_provider import CLIENT, ISSUER, NOW, Known, Provider, body, phoenix_of

from phoenix_orch.kernel.errors import Retryable, Unauthenticated
from phoenix_orch.security.oidc import LONGEST
from phoenix_orch.security.oidc_keys import FRESH, GAP, STALE, keys_of
from phoenix_orch.security.rights import Grant, Kind, Role

BACK = "https://phoenix.example/login/oidc/callback"
MOMENT = int(NOW.timestamp())


@pytest.fixture(scope="module")
def first_key():
    return RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})


@pytest.fixture
def provider(first_key):
    made = Provider()
    made.add_key("one", first_key)
    return made


@pytest.fixture
def published(provider):
    return Known(provider)


@pytest.fixture
def phoenix(published):
    return phoenix_of(published)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


# -- tokens that count -----------------------------------------------------------------------------


async def test_a_token_that_counts_gives_what_its_groups_are_granted_until_it_ends(provider, phoenix):
    known = await phoenix.known_by(provider.sign("one"))
    assert (known.principal.name, known.principal.kind) == ("4711", Kind.OIDC)
    assert known.principal.grants == (Grant(Role.OPERATOR),)
    assert known.lasts == pytest.approx(660)


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("ES256", ECKey.generate_key("P-256", {"kid": "two"})),
        ("Ed25519", OKPKey.generate_key("Ed25519", {"kid": "two"})),
    ],
)
async def test_keys_on_curves_count_too(provider, phoenix, algorithm, key):
    provider.add_key("two", key)
    assert (await phoenix.known_by(provider.sign("two", algorithm))).principal.name == "4711"


# -- hostile tokens --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"iss": "https://provider.example/"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"iss": [ISSUER]}, "another issuer"),
        ({"aud": "other"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": {CLIENT: 1}}, "another audience"),
        ({"exp": MOMENT - 61}, "expired"),
        ({"exp": None}, "when it expires"),
        ({"exp": "never"}, "when it expires"),
        ({"exp": True}, "when it expires"),
        ({"exp": 10**400}, "when it expires"),
        ({"nbf": MOMENT + 61}, "not count yet"),
        ({"nbf": "now"}, "when it begins"),
        ({"iat": MOMENT + 61}, "not count yet"),
        ({"sub": None}, "who it is about"),
        ({"sub": "a\nb"}, "who it is about"),
        ({"sub": "x" * 201}, "who it is about"),
    ],
)
async def test_a_token_with_other_claims_lets_nobody_in(provider, phoenix, changed, why):
    with pytest.raises(Unauthenticated, match=why):
        await phoenix.known_by(provider.sign("one", **changed))


async def test_a_minute_between_the_clocks_is_forgiven(provider, phoenix):
    late = provider.sign("one", exp=MOMENT - 59, nbf=MOMENT + 59, iat=MOMENT + 59)
    assert (await phoenix.known_by(late)).lasts == pytest.approx(1)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "RS1", "HS256", "EdDSA", 7])
async def test_an_algorithm_that_was_not_agreed_lets_nobody_in(phoenix, algorithm):
    for signature in ("", "AAAA"):
        token = f"{part({'alg': algorithm, 'kid': 'one'})}.{part(body())}.{signature}"
        with pytest.raises(Unauthenticated):
            await phoenix.known_by(token)


@pytest.mark.parametrize("form", ["PEM", "DER"])
async def test_the_public_key_is_no_shared_secret(first_key, phoenix, form):
    signed = f"{part({'alg': 'HS256', 'kid': 'one'})}.{part(body())}"
    public = first_key.as_bytes(encoding=form, private=False)
    signature = hmac.digest(public, signed.encode(), "sha256")
    token = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    with pytest.raises(Unauthenticated, match="in a way that counts"):
        await phoenix.known_by(token)


async def test_a_key_of_one_kind_is_not_used_for_another(provider, phoenix):
    provider.add_key("curve", ECKey.generate_key("P-256", {"kid": "curve"}))
    head = part({"alg": "RS256", "kid": "curve"})
    with pytest.raises(Unauthenticated, match="no such key"):
        await phoenix.known_by(f"{head}.{part(body())}.AAAA")


async def test_a_strangers_key_signs_nothing_under_a_known_name(provider, phoenix):
    stranger = Provider()
    stranger.add_key("one")
    with pytest.raises(Unauthenticated, match="signature is wrong"):
        await phoenix.known_by(stranger.sign("one"))


async def test_a_key_that_a_token_brings_along_is_not_looked_at(phoenix):
    own = RSAKey.generate_key(2048, {"kid": "one"})
    head = {"alg": "RS256", "kid": "one", "jwk": own.as_dict(private=False)}
    with pytest.raises(Unauthenticated, match="signature is wrong"):
        await phoenix.known_by(jwt.encode(head, body(), own, algorithms=["RS256"]))


async def test_other_claims_do_not_fit_the_signature(provider, phoenix):
    head, _, signature = provider.sign("one").split(".")
    with pytest.raises(Unauthenticated, match="signature is wrong"):
        await phoenix.known_by(f"{head}.{part(body(groups=['admins']))}.{signature}")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "..",
        "a.b.c",
        "é.b.c",
        f"{part([])}.e30.e30",
        f"{part({'alg': 'RS256', 'kid': 1})}.e30.e30",
        f"{part({'alg': 'RS256', 'kid': 'one', 'crit': ['b64'], 'b64': False})}.e30.e30",
        f"{part({'alg': 'RS256', 'kid': 'one'})}.!.e30",
        base64.urlsafe_b64encode(b"[" * 9000).decode() + ".e30.e30",
    ],
)
async def test_what_is_no_token_lets_nobody_in(phoenix, token):
    with pytest.raises(Unauthenticated):
        await phoenix.known_by(token)


async def test_a_token_that_is_too_long_is_not_looked_at(provider, phoenix):
    with pytest.raises(Unauthenticated, match="too long"):
        await phoenix.known_by(provider.sign("one", padding="x" * LONGEST))
    assert provider.asked == []


async def test_what_is_told_of_a_token_is_nothing_of_it(provider, phoenix):
    token = provider.sign("one", iss="canary-issuer", sub="canary-subject")
    with pytest.raises(Unauthenticated) as caught:
        await phoenix.known_by(token)
    assert "canary" not in str(caught.value)
    assert not any(piece in str(caught.value) for piece in token.split("."))
    assert caught.value.__cause__ is None


# -- keys ------------------------------------------------------------------------------------------


async def test_a_new_key_is_fetched_and_unknown_names_do_not_ask_each_time(provider, published, phoenix):
    await phoenix.known_by(provider.sign("one"))
    provider.add_key("two")
    with pytest.raises(Unauthenticated, match="no such key"):
        await phoenix.known_by(provider.sign("two"))  # it was asked a moment ago
    published.seconds += GAP
    await phoenix.known_by(provider.sign("two"))
    asked = len(provider.asked)
    stranger = Provider()
    stranger.add_key("three")
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            await phoenix.known_by(stranger.sign("three"))
    assert len(provider.asked) == asked


async def test_the_only_key_need_not_be_named(provider, published, phoenix):
    token = jwt.encode({"alg": "RS256"}, body(), provider.keys["one"], algorithms=["RS256"])
    assert (await phoenix.known_by(token)).principal.name == "4711"
    provider.add_key("two")
    published.seconds += FRESH
    with pytest.raises(Unauthenticated, match="no such key"):
        await phoenix.known_by(token)


async def test_a_key_that_was_withdrawn_counts_no_longer(provider, published, phoenix):
    token = provider.sign("one")
    await phoenix.known_by(token)
    del provider.keys["one"]
    published.seconds += FRESH
    with pytest.raises(Unauthenticated, match="no such key"):
        await phoenix.known_by(token)


async def test_with_the_provider_away_known_keys_count_for_a_day_and_others_do_not(
    provider, published, phoenix
):
    token = provider.sign("one")
    await phoenix.known_by(token)
    provider.add_key("two")
    unknown, provider.away = provider.sign("two"), True
    published.seconds += FRESH
    assert (await phoenix.known_by(token)).principal.name == "4711"
    with pytest.raises(Retryable, match="does not answer"):
        await phoenix.known_by(unknown)
    published.seconds += STALE
    with pytest.raises(Retryable, match="does not answer"):
        await phoenix.known_by(token)
    provider.away = False
    published.seconds += GAP
    assert (await phoenix.known_by(unknown)).principal.name == "4711"


@pytest.mark.parametrize(
    "document",
    [
        {"issuer": "https://elsewhere.example"},
        {"jwks_uri": "http://provider.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
        {"token_endpoint": "https://[broken"},
    ],
)
async def test_a_discovery_document_that_leads_astray_is_refused(provider, phoenix, document):
    provider.document = document
    with pytest.raises(Retryable):
        await phoenix.known_by(provider.sign("one"))
    assert provider.asked == ["/.well-known/openid-configuration"]


def test_only_keys_that_check_signatures_are_taken(first_key):
    listed = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        {**first_key.as_dict(private=False), "use": "enc"},
        {"kty": "RSA", "kid": "broken", "n": "!", "e": 3},
        {"kty": "new", "kid": "strange"},
        "none",
        None,
    ]
    assert keys_of({"keys": listed}) == {}
    assert keys_of({"keys": "none"}) == {}
    assert set(keys_of({"keys": [*listed, first_key.as_dict(private=False)]})) == {"one"}


# -- logins ----------------------------------------------------------------------------------------


async def test_a_login_brings_whoever_the_provider_let_in_where_they_wanted_to_be(provider, phoenix):
    address, state = await phoenix.begin(BACK, "/console/rollouts/shop")
    assert address.startswith(f"{ISSUER}/authorize?")
    principal, after = await phoenix.finish(state, state, provider.let_in(address), ISSUER)
    assert (principal.name, after) == ("4711", "/console/rollouts/shop")
    assert "authorization" not in provider.headers[0]
    assert provider.forms[0]["code_verifier"] not in address


async def test_a_client_with_a_secret_shows_it_to_the_provider_alone(provider, published, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("canary:secret\n")
    phoenix = phoenix_of(published, secret_file=str(secret))
    address, state = await phoenix.begin(BACK, "/")
    await phoenix.finish(state, state, provider.let_in(address), None)
    shown = base64.b64decode(provider.headers[0]["authorization"].removeprefix("Basic ")).decode()
    assert shown == f"{CLIENT}:canary%3Asecret"
    assert "canary" not in address + str(provider.forms)


async def test_an_answer_counts_once_and_in_the_browser_that_asked(provider, phoenix):
    address, state = await phoenix.begin(BACK, "/")
    _, other = await phoenix.begin(BACK, "/")
    code = provider.let_in(address)
    for held in ("", other):
        with pytest.raises(Unauthenticated, match="this browser"):
            await phoenix.finish(state, held, code, None)
    await phoenix.finish(state, state, code, None)
    with pytest.raises(Unauthenticated, match="finished already"):
        await phoenix.finish(state, state, code, None)
    with pytest.raises(Unauthenticated):
        await phoenix.finish("", "", code, None)


async def test_a_code_of_another_login_is_worth_nothing(provider, phoenix):
    theirs, _ = await phoenix.begin(BACK, "/")
    _, state = await phoenix.begin(BACK, "/")
    with pytest.raises(Unauthenticated, match="refuses"):  # the verifier is another
        await phoenix.finish(state, state, provider.let_in(theirs), None)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"nonce": "other"}, "another login"),
        ({"nonce": None}, "another login"),
        ({"azp": "other"}, "another client"),
        ({"aud": [CLIENT, "other"]}, "another client"),
        ({"aud": "other"}, "another audience"),
    ],
)
async def test_a_token_of_another_login_lets_nobody_in(provider, phoenix, said, why):
    provider.said = said
    address, state = await phoenix.begin(BACK, "/")
    with pytest.raises(Unauthenticated, match=why):
        await phoenix.finish(state, state, provider.let_in(address), None)


async def test_an_answer_of_another_provider_is_not_followed_up(provider, phoenix):
    address, state = await phoenix.begin(BACK, "/")
    with pytest.raises(Unauthenticated, match="let nobody in"):
        await phoenix.finish(state, state, provider.let_in(address), "https://elsewhere.example")
    assert provider.forms == []
