"""Secrets as sops writes them: names in clear, values sealed, opened by `sops -d` and an age key. Pure.

The format is that of sops 3.9 and later: each value by AES-256-GCM with its path as associated data, one data
key a document, sealed to every age recipient, and a MAC over all values, those in clear too. So a value that
was flipped, cut off or moved, and a label whose value was changed, are refused. Names that stand in clear are
no part of sops' MAC: Git's own hashes cover those, and the manifest that names the commit.

A document gets a new data key whenever it is written. Whoever writes has public keys only, and cannot read
what was written before; that nothing has changed is known from digests (`value_digests.py`), and then the
former text stays, byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import pyrage  # type: ignore[import-untyped]
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.recovery.canonical_yaml import written
from phoenix_orch.recovery.errors import Corrupted, WrongKey

Identity: TypeAlias = pyrage.x25519.Identity | pyrage.ssh.Identity
"""A private key."""
Random = Callable[[int], bytes]

KEY_BYTES, IV_BYTES, TAG_BYTES = 32, 32, 16
"""sops takes IVs of 32 bytes; AES-GCM hashes any that has not 12."""
SECRET_PARTS = ("data", "stringData")
_OF_VERSION = "3.11.0"
_PATTERN = f"^({'|'.join(SECRET_PARTS)})$"
_SEALED = re.compile(
    r"ENC\[AES256_GCM,data:([A-Za-z0-9+/=]+),iv:([A-Za-z0-9+/=]+),tag:([A-Za-z0-9+/=]+),type:(str|int|bool|bytes)\]"
)
Path: TypeAlias = tuple[str, ...]


def sealed(
    document: Mapping[str, Any],
    recipients: Sequence[str],
    at: datetime,
    *,
    token: Random = secrets.token_bytes,
) -> str:
    """YAML of `document`, of texts, integers, booleans and None, with what is below `SECRET_PARTS` sealed.

    `recipients`: public keys, `age1…` or `ssh-…`. Raises Invalid for what cannot be sealed.
    """
    if "sops" in document:
        raise Invalid("an object has a field sops, which is where the seal of the file stands")
    body, seal = _sealed(_in_order(document), recipients, at, _is_secret, token)
    return written(body) + written({"sops": {**seal, "encrypted_regex": _PATTERN}})


def sealed_bytes(
    content: bytes, recipients: Sequence[str], at: datetime, *, token: Random = secrets.token_bytes
) -> bytes:
    """The JSON that sops makes of a file of a kind it does not know; `sops -d` gives the bytes back."""
    body, seal = _sealed({"data": content}, recipients, at, _always, token)
    return json.dumps({**body, "sops": seal}, indent=1).encode() + b"\n"


def opened(text: str | bytes, identities: Sequence[Identity]) -> dict[str, Any]:
    """The document that `sealed` was given. Raises WrongKey, and Corrupted for whatever is not as it was."""
    try:
        found = YAML(typ="safe", pure=True).load(io.BytesIO(text) if isinstance(text, bytes) else text)
    except (YAMLError, ValueError) as error:
        raise Corrupted(f"the file is no YAML: {type(error).__name__}") from None
    seal = found.get("sops") if isinstance(found, dict) else None
    if not isinstance(seal, dict) or seal.get("encrypted_regex") != _PATTERN:
        raise Corrupted("the file has no seal of sops that this version writes")
    values = _opened(found, identities, _is_secret)
    return {name: _as_text(part) for name, part in values.items()}


def opened_bytes(content: bytes, identities: Sequence[Identity]) -> bytes:
    """What `sealed_bytes` was given. Raises WrongKey, Corrupted."""
    try:
        found = json.loads(content)
    except ValueError:
        raise Corrupted("the file is no JSON") from None
    if not isinstance(found, dict) or set(found) != {"data", "sops"} or not isinstance(found["sops"], dict):
        raise Corrupted("the file has no seal of sops that this version writes")
    data = _opened(found, identities, _always)["data"]
    if data == "":
        return b""
    if not isinstance(data, bytes):
        raise Corrupted("the file holds no bytes")
    return data


def recipients_of(text: str) -> list[str]:
    """To whom a file is sealed, in order."""
    return re.findall(r"recipient: \"?((?:age1|ssh-)[^\"\n]+)", text)


# -- sealing ---------------------------------------------------------------------------------------


def _sealed(
    values: Mapping[str, Any],
    recipients: Sequence[str],
    at: datetime,
    hidden: Callable[[Path], bool],
    token: Random,
) -> tuple[dict[str, Any], dict[str, Any]]:
    if not recipients:
        raise Invalid("there is nobody to seal secrets to", remedy="name age recipients: phoenix keys init")
    key, mac = token(KEY_BYTES), hashlib.sha512()
    cipher, moment = AESGCM(key), at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def seal(value: Any, path: Path) -> Any:
        mac.update(_bytes(value, path))
        if value in ("", b""):
            return ""  # sops leaves what is empty as it is
        if not hidden(path):
            return value
        return _value(cipher, value, ":".join(path) + ":", token)

    body = _walked(values, (), seal)
    return body, {
        "age": [{"recipient": one, "enc": _enveloped(key, one)} for one in recipients],
        "lastmodified": moment,
        "mac": _value(cipher, mac.hexdigest().upper(), moment, token),
        "version": _OF_VERSION,
    }


def _value(cipher: AESGCM, value: Any, about: str, token: Random) -> str:
    iv = token(IV_BYTES)
    box = cipher.encrypt(iv, _bytes(value, ()), about.encode())
    data, tag = box[:-TAG_BYTES], box[-TAG_BYTES:]
    of_type = {bool: "bool", int: "int"}.get(type(value), "str")
    parts = (base64.b64encode(part).decode() for part in (data, iv, tag))
    return "ENC[AES256_GCM,data:{},iv:{},tag:{},type:{}]".format(*parts, of_type)


def _enveloped(key: bytes, recipient: str) -> str:
    try:
        to: Any = (
            pyrage.ssh.Recipient.from_str(recipient)
            if recipient.startswith("ssh-")
            else pyrage.x25519.Recipient.from_str(recipient)
        )
    except pyrage.RecipientError:
        raise Invalid(
            f"{recipient[:20]!r}… is no age recipient", remedy="public keys begin with age1 or ssh-"
        ) from None
    return str(pyrage.encrypt(key, [to], armored=True), "ascii")


# -- opening ---------------------------------------------------------------------------------------


def _opened(
    found: dict[str, Any], identities: Sequence[Identity], hidden: Callable[[Path], bool]
) -> dict[str, Any]:
    seal = found["sops"]
    try:
        envelopes = [str(one["enc"]) for one in seal["age"]]
        moment, sealed_mac = str(seal["lastmodified"]), str(seal["mac"])
    except (KeyError, TypeError):
        raise Corrupted("the seal of the file is not whole") from None
    cipher, mac = AESGCM(_data_key(envelopes, identities)), hashlib.sha512()

    def reveal(value: Any, path: Path) -> Any:
        if hidden(path) and value != "":
            value = _revealed(cipher, value, ":".join(path) + ":", ".".join(path))
        mac.update(_bytes(value, path))
        return value

    body = {name: part for name, part in found.items() if name != "sops"}
    values: dict[str, Any] = _walked(body, (), reveal)
    said = _revealed(cipher, sealed_mac, moment, "the seal")
    if not isinstance(said, bytes) or not hmac.compare_digest(said, mac.hexdigest().upper().encode()):
        raise Corrupted("a value in clear, or a name, is not what was sealed")
    return values


def _data_key(envelopes: Sequence[str], identities: Sequence[Identity]) -> bytes:
    for envelope in envelopes:
        try:
            key: bytes = pyrage.decrypt(envelope.encode(), list(identities))
        except (pyrage.DecryptError, ValueError):
            continue
        if len(key) == KEY_BYTES:
            return key
    raise WrongKey(
        "none of the keys at hand opens the secrets",
        remedy="give the online or the offline identity that they were sealed to",
    )


def _revealed(cipher: AESGCM, value: Any, about: str, where: str) -> Any:
    parts = _SEALED.fullmatch(value) if isinstance(value, str) else None
    if parts is None:
        raise Corrupted(f"{where} is not sealed")
    try:
        data, iv, tag = (base64.b64decode(part, validate=True) for part in parts.groups()[:3])
        plain = cipher.decrypt(iv, data + tag, about.encode())
        return _typed(plain, parts[4])
    except (InvalidTag, ValueError):
        raise Corrupted(f"{where} is not what was sealed") from None


def _typed(plain: bytes, of_type: str) -> Any:
    """Text stays bytes: a file need not be UTF-8."""
    if of_type == "int":
        return int(plain)
    if of_type == "bool":
        return {b"True": True, b"False": False}.get(plain, plain)
    return plain


# -- walking ---------------------------------------------------------------------------------------


def _walked(value: Any, path: Path, leaf: Callable[[Any, Path], Any]) -> Any:
    """A copy with `leaf` done to each value, in order. As in sops items of a list have the list's path."""
    if isinstance(value, Mapping):
        return {name: _walked(part, (*path, str(name)), leaf) for name, part in value.items()}
    if isinstance(value, list):
        return [_walked(item, path, leaf) for item in value]
    return None if value is None else leaf(value, path)


def _in_order(value: Any) -> Any:
    """As `written` sorts it: the MAC is over the values in the order of the file."""
    if isinstance(value, Mapping):
        return {name: _in_order(value[name]) for name in sorted(value)}
    return [_in_order(item) for item in value] if isinstance(value, list) else value


def _is_secret(path: Path) -> bool:
    """As sops has it: any name on the way counts, a label called `data` too."""
    return any(name in SECRET_PARTS for name in path)


def _always(path: Path) -> bool:  # noqa: ARG001 - the signature of a rule
    return True


def _bytes(value: Any, path: Path) -> bytes:
    """A value as sops hashes and seals it."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return b"True" if value else b"False"
    if isinstance(value, int):
        return str(value).encode()
    raise Invalid(f"{'.'.join(path)} is {type(value).__name__}, which no Secret has")


def _as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Corrupted("a value that was sealed as text is none") from None
    if isinstance(value, dict):
        return {name: _as_text(part) for name, part in value.items()}
    return [_as_text(item) for item in value] if isinstance(value, list) else value
