"""Who can open backups: age recipients and identities.

A recipient is a public key, and all that a backup needs. An identity is the private half. At least two
recipients, one of them offline: its identity is kept where no machine reaches it, so that neither a lost
machine nor a lost safe loses the backups, and whoever steals this machine's backups has no key to them but
the online one. Private keys never leave this module as text, but for a file that a person names.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyrage  # type: ignore[import-untyped]

from phoenix_orch.kernel import files
from phoenix_orch.kernel.errors import BadState, Invalid, Terminal
from phoenix_orch.recovery.errors import WrongKey
from phoenix_orch.runtime.files import make_private

LARGEST_FILE = 64 * 1024
_AGE_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105 - how it begins
_SEALED = (b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----")
_ARMOUR = _SEALED[1]
_SSH = b"-----BEGIN "
_ABSENT = (
    "is the stick in, and mounted? The recovery key is where it was put away; the online key where "
    "`phoenix keys init` wrote it, or where backup.identityFile says"
)
"""Not that keys can be made: new ones open no backup that is there."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A public key that backups are sealed for."""

    text: str
    """`age1…`, `ssh-ed25519 …` or `ssh-rsa …`, without a comment."""
    name: str = ""
    offline: bool = False
    """Its private half is on no machine that runs Phoenix."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", " ".join(self.text.split()[:2]))
        _public(self.text)

    def key(self) -> Any:
        """As pyrage takes it."""
        return _public(self.text)


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key. It shows its public half alone."""

    public: str
    """As a recipient's text; "" for a key of SSH, whose public half is beside it in another file."""
    key: Any = field(repr=False)
    secret: str = field(default="", repr=False)
    """The line of an age identity file; "" for a key of SSH."""


def generate() -> Identity:
    key = pyrage.x25519.Identity.generate()
    return Identity(public=str(key.to_public()), key=key, secret=str(key))


def identity_text(identity: Identity, what: str, now: datetime) -> str:
    """The file of an identity, as `age-keygen` writes it."""
    moment = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"# {what}\n# created: {moment}\n# public key: {identity.public}\n{identity.secret}\n"


def parsed(content: bytes, name: str, passphrase: Callable[[], str] | None = None) -> list[Identity]:
    """The identities of a file, in its order. `passphrase` is asked when the file is sealed with one.

    Raises Invalid, WrongKey for another passphrase; no message repeats what was read.
    """
    if content.lstrip().startswith(_SEALED):
        content = _unsealed(content, name, passphrase)
    if content.lstrip().startswith(_SSH):
        return [_ssh(content, name)]
    found = []
    for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            key = pyrage.x25519.Identity.from_str(text)
        except pyrage.IdentityError:
            raise Invalid(
                f"line {number} of {name} is no private key of age",
                remedy=f"one begins {_AGE_SECRET}: compare it, letter by letter, with what `phoenix keys "
                "init` has printed and was put away",
            ) from None
        found.append(Identity(public=str(key.to_public()), key=key, secret=text))
    if not found:
        raise Invalid(f"{name} holds no private key", remedy="name the file that `phoenix keys init` wrote")
    return found


def read(path: Path, passphrase: Callable[[], str] | None = None) -> list[Identity]:
    content = files.read(path, at_most=LARGEST_FILE, absent=_ABSENT)
    return parsed(content, files.name_of(path), passphrase)


def write_private(path: Path, text: str, *, replace: bool = False) -> None:
    """A file for its owner alone, whole or not at all. Raises BadState when it is there, Terminal."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        make_private(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                temporary.replace(path)
            else:
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise BadState(
            f"{path} is there already, and a key is not written over",
            remedy="backups may need it: use it, or move it to where you will find it",
        ) from None
    except OSError as error:
        raise Terminal(
            f"{path} cannot be written: {(error.strerror or str(error)).lower()}",
            remedy="name a file in a folder that you may write to",
        ) from None


def require(recipients: Sequence[Recipient], identities: Iterable[Identity]) -> None:
    """Refuse recipients that would leave backups closed to us, or open to a thief. Raises Invalid."""
    here = {identity.public for identity in identities if identity.public}
    if len({one.text for one in recipients}) < 2:
        raise Invalid(
            f"backups are sealed for at least two recipients, and there "
            f"{'is one' if recipients else 'are none'}",
            remedy="`phoenix keys init` makes two, and says what to put into phoenix.yaml",
        )
    offline = [one for one in recipients if one.offline]
    if not offline or len(offline) == len(recipients):
        raise Invalid(
            "at least one recipient is to be offline, and one not",
            remedy="`phoenix keys init` makes both; mark the recovery key with `offline: true`",
        )
    for one in offline:
        if one.text in here:
            raise Invalid(
                f"the private key of {one.name or one.text} is on this machine, and it is marked offline",
                remedy="keep it where no machine reaches it and remove it here; or make another one",
            )


def sealed_small(content: bytes, recipients: Sequence[Recipient]) -> bytes:
    """A small content as an age file."""
    return bytes(pyrage.encrypt(content, [one.key() for one in recipients]))


def opened_small(content: bytes, identities: Sequence[Identity], what: str) -> bytes:
    """Raises WrongKey when it does not open, damaged or not: an age file says no more."""
    try:
        return bytes(pyrage.decrypt(content, [one.key for one in identities]))
    except pyrage.DecryptError:
        raise WrongKey(
            f"{what} does not open with the private key at hand, or is damaged",
            remedy="name the file of the right one as backup.identityFile",
        ) from None


def _public(text: str) -> Any:
    try:
        if text.startswith("ssh-"):
            return pyrage.ssh.Recipient.from_str(text)
        return pyrage.x25519.Recipient.from_str(text)
    except pyrage.RecipientError:
        kind = "a private key" if text.upper().startswith("AGE-SECRET") else repr(text[:20])
        raise Invalid(
            f"{kind} is no public key of age or SSH",
            remedy="it begins age1…, ssh-ed25519 or ssh-rsa; `phoenix keys init` makes one",
        ) from None


def _unsealed(content: bytes, name: str, passphrase: Callable[[], str] | None) -> bytes:
    if passphrase is None:
        raise Invalid(
            f"{name} is sealed with a passphrase", remedy="name a file that is open, or ask at a terminal"
        )
    if content.lstrip().startswith(_ARMOUR):
        raise Invalid(f"{name} is armoured", remedy="open it first: age -d FILE")
    try:
        return bytes(pyrage.passphrase.decrypt(content, passphrase()))
    except pyrage.DecryptError:
        raise WrongKey(f"the passphrase does not open {name}", remedy="try again") from None


def _ssh(content: bytes, name: str) -> Identity:
    try:
        return Identity(public="", key=pyrage.ssh.Identity.from_buffer(content))
    except pyrage.IdentityError:
        raise Invalid(
            f"{name} is no private key of SSH that opens backups",
            remedy="ed25519 or rsa, without a passphrase; or an age key: phoenix keys init",
        ) from None
