"""What an identity provider publishes: its discovery document and the keys that it signs with."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from phoenix_orch.kernel.errors import Retryable, Unauthenticated

DISCOVERY = "/.well-known/openid-configuration"
LIMIT = 5.0
"""Seconds for one answer of the provider."""
LARGEST = 512 * 1024
"""Bytes of one answer."""
FRESH = 600.0
"""Seconds after which the keys are asked for anew: so long a key that was withdrawn still counts."""
GAP = 10.0
"""Seconds between two questions to the provider, whatever tokens are shown here."""
STALE = 24 * 3600.0
"""Seconds that known keys count while the provider is away."""
SHORTEST_RSA = 2048
_REFUSED = (httpx.codes.BAD_REQUEST, httpx.codes.UNAUTHORIZED)
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "Ed25519"}


@dataclass(frozen=True, slots=True)
class Discovery:
    """Where the provider is asked what."""

    authorization: str
    token: str
    keys: str
    basic: bool
    """The secret of a client goes into a header, as the standard would have it; else into the form."""


@dataclass(frozen=True, slots=True)
class _Known:
    discovery: Discovery
    keys: Mapping[str, Key]
    """By `kid`; one that has none by an empty text."""
    at: float


class Published:
    """Asks rarely, and keeps what it knows while the provider is away. For one event loop."""

    def __init__(
        self, issuer: str, ca: str | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`ca`: a file in PEM of the authority to trust instead of the system's. Raises OSError, SSLError."""
        self.issuer = issuer
        self._context = ssl.create_default_context(cafile=ca)
        self._clock = clock
        self._known: _Known | None = None
        self._asked: float | None = None
        self._failed: Retryable | None = None
        """How the last question went wrong."""
        self._asking = asyncio.Lock()

    def http(self) -> httpx.AsyncClient:
        """For calls to the provider alone: no proxy of the environment, and nobody sends it elsewhere."""
        return httpx.AsyncClient(timeout=LIMIT, trust_env=False, follow_redirects=False, verify=self._context)

    async def discovery(self) -> Discovery:
        """Raises Retryable while nothing of the provider is known."""
        return (await self._now()).discovery

    async def key(self, kid: str) -> Key | None:
        """The key of this name; None where the provider has none. A provider with one key need not name it.

        A name that is not known may be a new one: the provider is asked again, but not by every token.
        Raises Retryable where the provider is away and what it has now cannot be known.
        """
        known = await self._now()
        found = _named(known.keys, kid)
        if found is None:
            found = _named((await self._anew(known)).keys, kid)
        return found

    async def _now(self) -> _Known:
        known = self._known
        if known is None:
            return await self._anew(None)
        age = self._clock() - known.at
        if age < FRESH or (age < STALE and self._asking.locked()):  # one asks, and nobody waits for that
            return known
        try:
            return await self._anew(known)
        except Retryable:
            if age < STALE:
                return known
            raise

    async def _anew(self, seen: _Known | None) -> _Known:
        """What is published now, or was when it was asked a moment ago."""
        async with self._asking:
            if self._known is not seen and self._known is not None:
                return self._known  # somebody else asked meanwhile
            if self._asked is not None and self._clock() - self._asked < GAP:
                if self._known is None or self._failed is not None:
                    raise self._failed or _away()
                return self._known
            try:
                self._known = await self._ask()
                self._failed = None
            except Retryable as error:
                self._failed = error
                raise
            finally:
                self._asked = self._clock()
            return self._known

    async def _ask(self) -> _Known:
        async with self.http() as client:
            discovery = _discovery(await answer(client, self.issuer.rstrip("/") + DISCOVERY), self.issuer)
            keys = keys_of(await answer(client, discovery.keys))
            return _Known(discovery, keys, self._clock())


async def answer(client: httpx.AsyncClient, url: str, **form: Any) -> dict[str, Any]:
    """A JSON object from the provider; with `data`, to a form.

    Raises Unauthenticated where it refuses the form, Retryable for whatever else.
    """
    try:
        async with (
            asyncio.timeout(LIMIT),
            client.stream("POST" if form else "GET", url, **form) as response,
        ):
            body = b""
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > LARGEST:
                    raise _away()
            if form and response.status_code in _REFUSED:
                raise Unauthenticated(
                    "the identity provider refuses this login",
                    remedy="log in again; if that does not help, compare client id, secret and the address to"
                    " come back to with the registration there",
                )
            if response.status_code != httpx.codes.OK:
                raise _away()
            found = json.loads(body)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, RecursionError):
        raise _away() from None  # what it was asked may be a secret
    if not isinstance(found, dict):
        raise _away()
    return found


def _discovery(document: Mapping[str, Any], issuer: str) -> Discovery:
    """Raises Retryable for one of another issuer, or with addresses that anybody could answer at."""
    if document.get("issuer") != issuer:
        raise Retryable(
            "the identity provider calls itself by another name than api.oidc.issuer",
            remedy="write the issuer exactly as its discovery document does",
        )
    found = [document.get(f"{name}_endpoint") for name in ("authorization", "token")]
    found.append(document.get("jwks_uri"))
    for address in found:
        if not isinstance(address, str) or not _guarded(address, issuer):
            raise Retryable(
                "the discovery document of the identity provider names no https:// address for each of "
                "authorization, token and keys",
                remedy="ask whoever runs the provider",
            )
    methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    basic = not isinstance(methods, list) or "client_secret_basic" in methods
    authorization, token, keys = map(str, found)
    return Discovery(authorization, token, keys, basic)


def _guarded(address: str, issuer: str) -> bool:
    """Over TLS, or on the host of an issuer that may do without: on this machine."""
    try:
        there, here = urlsplit(address), urlsplit(issuer)
    except ValueError:
        return False
    if there.scheme == "https":
        return bool(there.hostname)
    return there.scheme == here.scheme == "http" and there.hostname == here.hostname


def keys_of(document: Mapping[str, Any]) -> dict[str, Key]:
    """Those of a key set that signatures can be checked with; what is no such key is passed over."""
    found: dict[str, Key] = {}
    listed = document.get("keys")
    for one in listed if isinstance(listed, list) else ():
        key = _key(one)
        if key is not None:
            found.setdefault(key.kid or "", key)
    return found


def _key(one: object) -> Key | None:
    if not isinstance(one, dict) or one.get("kty") == "oct" or one.get("use", "sig") != "sig":
        return None
    try:
        key = JWKRegistry.import_key(one)
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):  # whatever a stranger's key breaks
        return None
    if isinstance(key, RSAKey) and key.raw_value.key_size < SHORTEST_RSA:
        return None
    return key


def _named(keys: Mapping[str, Key], kid: str) -> Key | None:
    return next(iter(keys.values())) if not kid and len(keys) == 1 else keys.get(kid)


def signs(key: Key, algorithm: str) -> bool:
    """Whether the key is of the kind that the algorithm takes, and was not published for another."""
    stated = key.as_dict(private=False)
    if stated.get("alg", algorithm) not in (algorithm, "EdDSA"):  # EdDSA is what Ed25519 was called
        return False
    if isinstance(key, RSAKey):
        return algorithm[:2] in ("RS", "PS")
    return isinstance(key, ECKey | OKPKey) and _CURVES.get(str(stated.get("crv"))) == algorithm


def _away() -> Retryable:
    return Retryable(
        "the identity provider does not answer as it should",
        remedy="try again; a token of Phoenix works meanwhile: `phoenix token create` makes one",
    )
