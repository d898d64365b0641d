"""Signed records: what the bucket says of a backup holds only with a signature of a key that is trusted.

A record is one JSON object in canonical form with the key `signature`, made over the rest. Canonical means:
keys sorted, no space, UTF-8, so that one record has exactly one sequence of bytes, and any other is refused.
The key that signs is not one that decrypts: whoever holds it can read no backup.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from phoenix_orch.kernel.errors import Invalid, Terminal
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.runtime.files import make_private

SIGNING = "signing.pem"
"""The file of a machine's own key, beside its other keys."""
LARGEST = 4 * 2**20
"""Bytes of the largest record that is read."""
ALGORITHM = "ed25519"
_PUBLIC = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


class Tampered(Corrupted):
    """What was read is not what Phoenix wrote."""

    code: ClassVar[str] = "tampered"


class Signer(Protocol):
    @property
    def public(self) -> str:
        """The public key: 64 hexadecimal digits."""
        ...

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Ed25519Signer:
    """A private key in memory."""

    key: Ed25519PrivateKey

    @property
    def public(self) -> str:
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


class Trust:
    """The public keys whose word is taken."""

    def __init__(self, keys: Iterable[str]) -> None:
        """`keys`: 64 hexadecimal digits each. Raises Invalid for what is none."""
        self._keys: Mapping[str, Ed25519PublicKey] = {key: _public(key) for key in keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def knows(self, key: str) -> bool:
        return key in self._keys

    def holds(self, key: str, message: bytes, signature: bytes) -> bool:
        known = self._keys.get(key)
        if known is None:
            return False
        try:
            known.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def canonical(content: Mapping[str, Any]) -> bytes:
    """The one sequence of bytes of a JSON object. Raises ValueError for numbers that JSON has not."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def signed(content: Mapping[str, Any], signer: Signer) -> bytes:
    """The record as it is stored."""
    signature = {
        "algorithm": ALGORITHM,
        "key": signer.public,
        "value": signer.sign(canonical(content)).hex(),
    }
    return canonical({**content, "signature": signature})


def opened(raw: bytes, trust: Trust, what: str) -> dict[str, Any]:
    """What the record says. Raises Tampered; `what` names the record in it."""
    try:
        content = json.loads(raw) if len(raw) <= LARGEST else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or _canonical(content) != raw:
        raise Tampered(f"{what} is damaged: it is no record as Phoenix writes them", remedy=_REMEDY)
    signature = content.pop("signature", None)
    if not isinstance(signature, dict) or signature.keys() != {"algorithm", "key", "value"}:
        raise Tampered(f"{what} has no signature", remedy=_REMEDY)
    key, value = str(signature["key"]), str(signature["value"])
    if signature["algorithm"] != ALGORITHM or not _SIGNATURE.fullmatch(value):
        raise Tampered(f"{what} has a signature of a kind that is not known", remedy=_REMEDY)
    if not trust.holds(key, canonical(content), bytes.fromhex(value)):
        if trust.knows(key):
            why, remedy = "its content is not what was signed", _REMEDY
        else:
            why, remedy = f"key {key[:16]} is not trusted", _TRUST
        raise Tampered(f"the signature of {what} does not hold: {why}", remedy=remedy)
    return content


_REMEDY = "use another backup; `phoenix backup list` shows which hold"
_TRUST = (
    "if a machine of yours has that key, name it in backup.trustedKeys, as `phoenix backup keys` prints it "
    "there; never copy it from the storage"
)


def _canonical(content: dict[str, Any]) -> bytes | None:
    try:
        return canonical(content)
    except (ValueError, RecursionError):
        return None


def _public(text: str) -> Ed25519PublicKey:
    if not _PUBLIC.fullmatch(text):
        raise Invalid(
            "a key that is to be trusted is no public key",
            remedy="give the 64 hexadecimal digits that `phoenix backup keys` prints",
        )
    return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))


def signing_key(path: Path, *, make: bool = True) -> Ed25519Signer:
    """The key in the file, with `make` made when there is none. Raises Terminal where that cannot be."""
    try:
        if make and not path.exists():
            _make(path)
        return _loaded(path)
    except OSError as error:
        raise Terminal(
            f"the key that signs backups, {path}, cannot be used: {error.strerror}", remedy="mend its rights"
        ) from error


def _make(path: Path) -> None:
    """Whole or not at all; of two that make it at once one wins. Raises OSError."""
    make_private(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    key = Ed25519PrivateKey.generate()
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _loaded(path: Path) -> Ed25519Signer:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Terminal(
            f"{path} holds no key that signs backups",
            remedy="put it back from where you keep it; or move it away: a new one is made, and manifests "
            "of the old one count only with its public key in backup.trustedKeys",
        )
    return Ed25519Signer(key)
