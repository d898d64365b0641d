"""An identity provider in memory: signs what it is told to, and checks codes as a careful one does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import Key, RSAKey

from phoenix_orch.security.claims import ClaimGrant
from phoenix_orch.security.oidc import Oidc, Registration, challenge
from phoenix_orch.security.oidc_keys import Published
from phoenix_orch.security.rights import Grant, Role

ISSUER = "https://provider.example"
CLIENT = "phoenix"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Provider:
    keys: dict[str, Key] = field(default_factory=dict)
    away: bool = False
    asked: list[str] = field(default_factory=list)
    """Paths, in order."""
    document: dict[str, Any] = field(default_factory=dict)
    """What its discovery document says otherwise."""
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    """What was asked for with each code."""
    forms: list[dict[str, str]] = field(default_factory=list)
    headers: list[httpx.Headers] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)
    """Claims of the tokens that it gives for codes."""

    def add_key(self, kid: str, key: Key | None = None) -> None:
        self.keys[kid] = key or RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})

    def sign(self, kid: str, alg: str = "RS256", **changed: Any) -> str:
        return jwt.encode({"alg": alg, "kid": kid}, body(**changed), self.keys[kid], algorithms=[alg])

    def let_in(self, address: str) -> str:
        """Somebody logs in at the address to which Phoenix sent them; the code."""
        asked = dict(parse_qsl(urlsplit(address).query))
        code = f"code-{len(self.codes)}-never-told"
        self.codes[code] = asked
        return code

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.away:
            raise httpx.ConnectError("nobody listens")
        match request.url.path:
            case "/.well-known/openid-configuration":
                return httpx.Response(200, json=self._document())
            case "/keys":
                keys = [key.as_dict(private=False) for key in self.keys.values()]
                return httpx.Response(200, json={"keys": keys})
            case "/token":
                return self._token(request)
            case _:
                return httpx.Response(404)

    def _document(self) -> dict[str, Any]:
        return {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
            **self.document,
        }

    def _token(self, request: httpx.Request) -> httpx.Response:
        form = dict(parse_qsl(request.content.decode()))
        self.forms.append(form)
        self.headers.append(request.headers)
        asked = self.codes.pop(form["code"], None)
        if (
            asked is None
            or asked["code_challenge_method"] != "S256"
            or asked["code_challenge"] != challenge(form["code_verifier"])
            or asked["redirect_uri"] != form["redirect_uri"]
        ):
            return httpx.Response(400, json={"error": "invalid_grant"})
        claims = {"nonce": asked["nonce"], **self.said}
        return httpx.Response(200, json={"id_token": self.sign(next(iter(self.keys)), **claims)})


def body(**changed: Any) -> dict[str, Any]:
    """Claims of a token that counts, with others in place of some; None takes one away."""
    moment = int(NOW.timestamp())
    claims = {
        "iss": ISSUER,
        "aud": CLIENT,
        "sub": "4711",
        "exp": moment + 600,
        "iat": moment,
        "groups": ["releases"],
        **changed,
    }
    return {name: value for name, value in claims.items() if value is not None}


class Known(Published):
    """What a `Provider` publishes, on a clock that stands still."""

    def __init__(self, provider: Provider) -> None:
        self.seconds = 1000.0
        self.provider = provider
        super().__init__(ISSUER, clock=lambda: self.seconds)

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.provider.answer))


def phoenix_of(published: Published, **agreed: Any) -> Oidc:
    """Whoever is in the group `releases` is an operator."""
    rule = ClaimGrant("groups", "releases", (Grant(Role.OPERATOR),))
    algorithms = ("RS256", "PS256", "ES256", "Ed25519")
    registration = {"audience": CLIENT, "algorithms": algorithms, "grants": (rule,), **agreed}
    return Oidc(published, Registration(CLIENT, **registration), lambda: NOW)
