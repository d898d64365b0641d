"""Backups sealed anew, killed at each step: the old one or both, never less, and the same again ends it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.backup_stage import IDENTITY, OFFLINE, RECIPIENTS, SIGNER, TRUST, Stage, stage
from tests.recovery_outcomes import seen

from phoenix_orch.kernel.errors import Retryable
from phoenix_orch.recovery import keys
from phoenix_orch.recovery.catalog import Backup, Catalog
from phoenix_orch.recovery.errors import Corrupted, WrongKey
from phoenix_orch.recovery.keys import Identity, Recipient
from phoenix_orch.recovery.manifest import Pin, TriggerKind, encoded
from phoenix_orch.recovery.pipeline import unseal
from phoenix_orch.recovery.rekey import Rekeyer, Step, Told, due
from phoenix_orch.recovery.verifying import Verifier, expected
from phoenix_orch.testing.fake_backup import FakeBackupSource
from phoenix_orch.testing.fake_lease import Generations
from phoenix_orch.testing.faulty_objects import FaultyObjects

ROOT = Path(__file__).resolve().parents[2]
CONTENT = b"what is kept" * 300_000
(NEW,) = keys.parsed(
    b"AGE-SECRET-KEY-1R6NZKYGANXVNGLZ0DCFDC0G0LZEDA3ADVJYL6DZZR2TPR9QL9CMQDY2VU6", "of the test"
)
NOW = (Recipient(NEW.public, "new"), RECIPIENTS[1])

REKEY = "Sealing a backup for other keys"


def rekeyer(here: Stage, identities: tuple[Identity, ...] = (IDENTITY,)) -> Rekeyer:
    return Rekeyer(
        here.store,
        Catalog(here.store, TRUST),
        Generations(here.store),
        SIGNER,
        Verifier(here.store, (NEW,), here.now, "test"),
        identities,
        NOW,
        lambda key: f"cat {key}",
        here.now,
        "test",
    )


def opened(here: Stage, backup: Backup, identity: Identity) -> bytes:
    into = io.BytesIO()
    with here.store.reader(backup.manifest.stream.key) as reader:
        unseal(reader, into, [identity], expected(backup.manifest))
    return into.getvalue()


def done(here: Stage, old: str) -> None:
    """One new one that opens with the new keys alone; the old one is marked, and whole."""
    view = here.view()
    assert view.faults == ()
    (new,) = view.live
    assert (new.manifest.trigger.kind, new.good) == (TriggerKind.REKEY, True)
    assert new.manifest.parent is not None
    assert new.manifest.parent.id == old
    for identity in (NEW, OFFLINE):
        assert opened(here, new, identity) == CONTENT
    with pytest.raises(WrongKey):
        opened(here, new, IDENTITY)
    (before,) = [one for one in view.backups if one.id == old]
    assert before.tombstone is not None
    assert opened(here, before, IDENTITY) == CONTENT
    assert (new.at, new.manifest.time.consistency_point) == (
        before.at,
        before.manifest.time.consistency_point,
    )
    assert due(view.backups, NOW) == []


def published(folder: Path) -> tuple[Stage, Backup]:
    here = stage(folder)
    assert here.publish(FakeBackupSource(CONTENT)) is not None
    return here, here.view().backups[0]


def main(folder: str, wanted: str) -> None:
    """The process that is killed."""

    def step(now: Step) -> None:
        if now == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    here = stage(Path(folder))
    (old,) = here.view().backups
    rekeyer(here).rekey(old, "stolen", Told(step=step))


@pytest.mark.parametrize("step", list(Step))
def test_killed_at_each_step(tmp_path: Path, step: Step) -> None:
    here, old = published(tmp_path)
    code = "import sys; from tests.faults.test_backup_rekey import main; main(*sys.argv[1:])"
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), step], cwd=ROOT, check=False, timeout=60
    )
    assert child.returncode == -signal.SIGKILL
    view = here.view()
    assert view.faults == ()
    assert old.id in {one.id for one in view.backups}
    assert len(view.backups) == (2 if list(Step).index(step) >= list(Step).index(Step.COMMITTED) else 1)
    assert view.newest_good is not None
    if step is not Step.MARKED:
        rekeyer(here).rekey(old, "stolen")
    done(here, old.id)
    seen(
        REKEY,
        "kill -9",
        step.value,
        leaves="both, each opens" if len(view.backups) == 2 else "the old one",
        then="it was done" if step is Step.MARKED else "the same command goes on from there",
    )


def test_a_pin_goes_along(tmp_path: Path) -> None:
    here, old = published(tmp_path)
    pin = Pin(backup=old.id, at=here.now(), by="ann", reason="audit")
    here.store.create(old.manifest.scope.record(old.id, "pin"), encoded(pin, SIGNER))
    rekeyer(here).rekey(old, "")
    done(here, old.id)
    (new,) = here.view().live
    assert new.pin is not None
    assert (new.pin.by, new.pin.reason) == ("ann", "audit")


def test_another_key_changes_nothing(tmp_path: Path) -> None:
    here, old = published(tmp_path)
    with pytest.raises(WrongKey):
        rekeyer(here, (NEW,)).rekey(old, "")
    assert here.view().backups == (old,)
    assert len(list(tmp_path.rglob("data.*"))) == 1
    seen(REKEY, "none of the keys opens it", "opening", leaves="the old one", then="it says so")


def test_a_damaged_one_is_not_sealed_anew(tmp_path: Path) -> None:
    here, old = published(tmp_path)
    data = tmp_path / old.manifest.stream.key
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(content)
    with pytest.raises(Corrupted):
        rekeyer(here).rekey(old, "")
    assert len(here.view().backups) == 1
    assert len(list(tmp_path.rglob("data.*"))) == 1
    seen(REKEY, "a changed byte of the old one", "opening", leaves="the old one", then="it says so")


def test_a_storage_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    here, old = published(tmp_path)
    faulty = FaultyObjects(here.store)
    faulty.fail_writes_at = 100
    with pytest.raises(Retryable):
        rekeyer(Stage(tmp_path, faulty)).rekey(old, "")
    assert here.view().backups == (old,)
    rekeyer(here).rekey(old, "")
    done(here, old.id)
    seen(REKEY, "the storage fails", "byte 100", leaves="the old one", then="the next try does it")
