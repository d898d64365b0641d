"""A storage in a folder with everything that publishes, reads and verifies backups on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from phoenix_orch.recovery.catalog import Catalog, View
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.keys import Identity, Recipient
from phoenix_orch.recovery.layout import Scope
from phoenix_orch.recovery.manifest import Trigger, TriggerKind
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.publish import Published, Publisher, Settings, Told
from phoenix_orch.recovery.signing import Ed25519Signer, Trust
from phoenix_orch.recovery.storing import Spooling
from phoenix_orch.recovery.verifying import Structural, Verifier
from phoenix_orch.testing.fake_backup import FakeBackupSource
from phoenix_orch.testing.fake_lease import Generations

SIGNER = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(b"p" * 32))
TRUST = Trust([SIGNER.public])
SCOPE = Scope("local", "default", "bytes")
# The same in every process of a test; they open nothing else.
_ONLINE = pyrage.x25519.Identity.from_str(
    "AGE-SECRET-KEY-1H9QAA076LPK87RX7776JGMUKZ2G057YMVNEY2VMU4DG274PV83LQEU8KK2"
)
_OFFLINE = pyrage.x25519.Identity.from_str(
    "AGE-SECRET-KEY-1JD8M3EMEU4M9UW5XNM4HPF3NGRL747VHP6CYWDL2VM2DA2ZZLV6S0AH94C"
)
IDENTITY = Identity(public=str(_ONLINE.to_public()), key=_ONLINE)
OFFLINE = Identity(public=str(_OFFLINE.to_public()), key=_OFFLINE)
RECIPIENTS = (Recipient(IDENTITY.public, "here"), Recipient(OFFLINE.public, "safe", offline=True))


@dataclass
class Stage:
    """`store`: the one that is used, which may fail; `folder`: where it really is."""

    folder: Path
    store: ObjectStore
    identities: tuple[Identity, ...] = (IDENTITY,)
    cache: Path | None = None
    ahead: timedelta = timedelta(0)
    """Of our clock before the storage's."""
    spooling: Spooling | None = None

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.store, self.identities, self.now, "test")

    def publisher(self) -> Publisher:
        return Publisher(
            self.store,
            catalog=Catalog(self.store, TRUST),
            leases=Generations(self.store),
            signer=SIGNER,
            trust=TRUST,
            verifier=self.verifier,
            settings=Settings(
                RECIPIENTS, opener=lambda key: f"cat {self.folder / key}", spooling=self.spooling
            ),
            now=self.now,
        )

    def publish(
        self,
        source: FakeBackupSource | None = None,
        *,
        slot: datetime | None = None,
        structural: Structural | None = None,
        told: Told | None = None,
    ) -> Published | None:
        kind = TriggerKind.SCHEDULE if slot is not None else TriggerKind.MANUAL
        return self.publisher().publish(
            "local",
            "default",
            source or FakeBackupSource(),
            Trigger(kind=kind, actor="test"),
            slot=slot,
            structural=structural,
            told=told,
        )

    def view(self) -> View:
        """As somebody else sees it, whose store does not fail."""
        return Catalog(FolderStore(self.folder), TRUST, self.cache).read(SCOPE)


def stage(folder: Path, over: Callable[[ObjectStore], ObjectStore] = lambda store: store) -> Stage:
    return Stage(folder, over(FolderStore(folder)))
