"""Snapshots put straight into a repository of restic, as its document "Repository Format" describes it.

`restic backup` takes most of a second for one; what `restic forget` reads of it is one small file. A key file
is opened by the password (scrypt) and holds the keys of all others: AES-256 in counter mode, authenticated by
Poly1305-AES, named by the SHA-256 of what is stored.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from cryptography.hazmat.primitives.poly1305 import Poly1305

_NONCE = _TAG = 16
"""Bytes before and after the ciphertext."""


@dataclass(frozen=True)
class _Keys:
    encrypt: bytes
    """Of AES-256."""
    k: bytes
    """Of AES-128, which makes a nonce the second half of a key of Poly1305."""
    r: bytes
    """The first half."""

    def seal(self, plain: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE)
        text = self._stream(nonce, plain)
        return nonce + text + self._tag(nonce, text)

    def open(self, sealed: bytes) -> bytes:
        """Raises ValueError for what was not sealed by these."""
        nonce, text, tag = sealed[:_NONCE], sealed[_NONCE:-_TAG], sealed[-_TAG:]
        if self._tag(nonce, text) != tag:
            raise ValueError("the authentication of a file does not hold")
        return self._stream(nonce, text)

    def _stream(self, nonce: bytes, data: bytes) -> bytes:
        return Cipher(AES(self.encrypt), CTR(nonce)).encryptor().update(data)

    def _tag(self, nonce: bytes, text: bytes) -> bytes:
        pad = Cipher(AES(self.k), ECB()).encryptor().update(nonce)
        return Poly1305.generate_tag(self.r + pad, text)


def _keys(folder: Path, password: str) -> _Keys:
    (file,) = (folder / "keys").iterdir()
    told = json.loads(file.read_bytes())
    derived = hashlib.scrypt(
        password.encode(),
        salt=base64.b64decode(told["salt"]),
        n=told["N"],
        r=told["r"],
        p=told["p"],
        maxmem=256 * told["N"] * told["r"],
        dklen=64,
    )
    own = _Keys(derived[:32], derived[32:48], derived[48:])
    master = json.loads(own.open(base64.b64decode(told["data"])))
    mac = master["mac"]
    return _Keys(*map(base64.b64decode, (master["encrypt"], mac["k"], mac["r"])))


class Repository:
    """One that `restic init` has made, without a backup."""

    def __init__(self, folder: Path, password: str) -> None:
        self._folder = folder
        self._keys = _keys(folder, password)

    def add(self, host: str, at: datetime) -> None:
        """A snapshot of nothing. Only what reads trees would miss something."""
        told: dict[str, Any] = {
            "time": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "tree": hashlib.sha256(b"nothing").hexdigest(),
            "paths": ["/nothing"],
            "hostname": host,
            "username": "test",
        }
        sealed = self._keys.seal(json.dumps(told).encode())
        file = self._folder / "snapshots" / hashlib.sha256(sealed).hexdigest()
        file.write_bytes(sealed)
