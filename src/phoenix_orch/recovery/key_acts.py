"""Making, changing and trying the keys of backups."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from phoenix_orch.kernel.errors import BadState, Conflict, Invalid, NotFound
from phoenix_orch.recovery import keys
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.keys import Identity, Recipient
from phoenix_orch.recovery.objects import ObjectStore

CANARY = "keys/canary.age"
_STANZA = b"-> "
_ONLINE = "online key of Phoenix: opens backups on this machine, to verify them"
_RECOVERY = "RECOVERY KEY of Phoenix: opens every backup. Keep it where no machine reaches it"


@dataclass(frozen=True, slots=True)
class Made:
    """Keys that were made, or would be."""

    online: Identity
    recovery: Identity | None
    recovery_text: str = ""
    """The file of the recovery key: shown once, or written; kept nowhere else."""


def refuse_online(path: Path) -> None:
    """Raises BadState when there is an online key."""
    if os.path.lexists(path):
        raise BadState(
            f"{path} is there already: this Phoenix has its key",
            remedy="phoenix keys show tells what there is; phoenix keys rotate makes another",
        )


def init(online: Path, recovery: Path | None, now: datetime) -> Made:
    """Both keys. `recovery`: where its file goes, None to hand it back as text alone.

    Neither file is written over. The recovery key comes first: without it the online one is not to be used.
    Raises BadState, Terminal.
    """
    refuse_online(online)
    one, other = keys.generate(), keys.generate()
    text = keys.identity_text(other, _RECOVERY, now)
    if recovery is not None:
        keys.write_private(recovery, text)
    try:
        keys.write_private(online, keys.identity_text(one, _ONLINE, now))
    except BaseException:
        if recovery is not None:
            recovery.unlink(missing_ok=True)
        raise
    return Made(one, other, text)


def rotate(online: Path, now: datetime) -> Made:
    """A new online key; the ones before stay below it in the same file, since old backups need them.

    Raises Invalid when there is none yet.
    """
    before = keys.read(online)
    if any(not one.secret for one in before):
        raise Invalid(
            f"{online} holds a key of SSH, to which none can be added",
            remedy="name another file as backup.identityFile, and make its key: phoenix keys init",
        )
    fresh = keys.generate()
    old = "".join(f"# before {now:%Y-%m-%d}, public key: {one.public}\n{one.secret}\n" for one in before)
    keys.write_private(online, keys.identity_text(fresh, _ONLINE, now) + old, replace=True)
    return Made(fresh, None)


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check` found."""

    opened_by: str
    """The recipient whose key opened the canary."""
    recipients: int
    renewed: bool
    """The canary was made anew, for the recipients of now."""


def check(
    store: ObjectStore,
    recipients: Sequence[Recipient],
    identities: Sequence[Identity],
    *,
    dry_run: bool = False,
) -> Checked:
    """Whether what is sealed now for these recipients opens with the private key at hand, from the store.

    Raises Invalid for recipients that are too few or none of which is ours, WrongKey, Corrupted.
    """
    keys.require(recipients, identities)
    ours = {one.public for one in identities}
    mine = next((one for one in recipients if one.text in ours), None)
    if mine is None and all(one.public for one in identities):
        raise Invalid(
            "no private key here belongs to a recipient: what is backed up now cannot be verified here",
            remedy="name the right file as backup.identityFile, or add this machine's public key (phoenix "
            "keys show) to backup.recipients",
        )
    renewed = False
    wanted = sorted(one.text for one in recipients)
    found = _canary(store, identities)
    if found != wanted and not dry_run:
        _renew(store, recipients)
        renewed = True
        if _canary(store, identities) != wanted:
            raise Corrupted(f"{CANARY} is not what was just written", remedy="look at the storage")
    return Checked(mine.name or mine.text if mine else "a key of SSH", len(recipients), renewed)


def _canary(store: ObjectStore, identities: Sequence[Identity]) -> list[str] | None:
    """Whom the canary was sealed for; None when there is none, or it was for none of ours."""
    try:
        raw, _ = store.get(CANARY)
    except NotFound:
        return None
    header = raw.partition(b"\n--- ")[0].splitlines()
    content = keys.opened_small(raw, identities, CANARY)
    try:
        told = sorted(str(one) for one in json.loads(content)["recipients"])
    except (ValueError, KeyError, TypeError):
        raise Corrupted(
            f"{CANARY} opens, and holds no canary", remedy="remove it; the next check makes it anew"
        ) from None
    # a grease stanza of age may stand among those of the recipients
    return told if sum(line.startswith(_STANZA) for line in header) >= len(told) else None


def _renew(store: ObjectStore, recipients: Sequence[Recipient]) -> None:
    told = {"recipients": [one.text for one in recipients], "nonce": secrets.token_hex(16)}
    raw = keys.sealed_small(json.dumps(told).encode(), recipients)
    try:
        store.create(CANARY, raw)
    except Conflict:
        store.replace(CANARY, raw, store.stat(CANARY).etag)
