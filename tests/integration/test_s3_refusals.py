"""What S3 answers when something is wrong: each with words and a remedy of its own, whatever was asked.

A proxy before a real server gives the answers that AWS documents; everything else reaches the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from tests.backup_stage import SCOPE, TRUST, Stage
from tests.integration.faulting_s3 import (
    DENIED,
    EXPIRED,
    MALFORMED,
    NO_BUCKET,
    REDIRECTED,
    SKEWED,
    SLOW_DOWN,
    Answer,
    Faulting,
    faulting,
)
from tests.integration.s3_server import SECRET, S3Server, s3_server
from tests.recovery_outcomes import seen

from phoenix_orch.kernel.errors import PhoenixError, Retryable, Terminal
from phoenix_orch.recovery.bucket_admin import BucketAdmin
from phoenix_orch.recovery.catalog import Catalog
from phoenix_orch.recovery.object_store import BucketStore
from phoenix_orch.testing.fake_backup import FakeBackupSource
from phoenix_orch.testing.objects_contract import whole, written

LARGE = bytes(9_000_000)
EXPECTED: Mapping[str, tuple[Answer, type[PhoenixError], str, str]] = {
    "clock": (SKEWED, Terminal, "says this machine's clock is wrong", "timedatectl"),
    "redirect": (REDIRECTED, Terminal, "is in another region", "storage.s3.region"),
    "region": (MALFORMED, Terminal, "is in another region", "storage.s3.region"),
    "denied": (DENIED, Terminal, "refuses access", "PutObject"),
    "bucket": (NO_BUCKET, Terminal, "does not exist", "storage.s3.bucket"),
    "token": (EXPIRED, Terminal, "says the session token has expired", "storage.s3.credentials"),
    "slow": (SLOW_DOWN, Retryable, "asks for fewer", "prefix"),
}

NOT_TOLD = {
    ("slow", "stat"),  # an answer to HEAD has a status alone: as of any storage that is away
    ("slow", "read"),
    ("slow", "tidy"),  # boto3 goes on asking for long
    ("bucket", "delete"),  # nothing is there to be deleted
}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def proxy(s3: S3Server) -> Iterator[Faulting]:
    with faulting(s3) as one:
        yield one


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_told_by_its_name_whatever_was_asked(s3: S3Server, proxy: Faulting, name: str) -> None:
    answer, kind, words, remedy = EXPECTED[name]
    location = s3.location(s3.new_bucket(), endpoint=proxy.endpoint, ca_file=None)
    store = BucketStore(location, patience=timedelta(seconds=0.2))
    proxy.fault(None)
    store.create("a/there", b"x")
    acts: Mapping[str, Callable[[], object]] = {
        "create": lambda: store.create("a/key", b"x"),
        "get": lambda: store.get("a/there"),
        "stat": lambda: store.stat("a/there"),
        "read": lambda: whole(store, "a/there"),
        "list": lambda: list(store.list("a/")),
        "write": lambda: written(store, "a/large", LARGE),
        "delete": lambda: store.delete("a/there"),
        "tidy": lambda: list(BucketAdmin(location).unfinished()),
    }
    for act, do in acts.items():
        if (name, act) in NOT_TOLD:
            continue
        proxy.fault(answer)
        with pytest.raises(PhoenixError) as refusal:
            do()
        assert type(refusal.value) is kind, act
        assert words in refusal.value.message, act
        assert remedy in refusal.value.remedy, act
        assert SECRET not in str(refusal.value)
        assert proxy.answered
    proxy.fault(None)
    assert store.get("a/there")[0] == b"x"
    assert [one.key for one in store.list("")] == ["a/there"]


def test_a_storage_that_asks_for_fewer_requests_gets_them_and_all_is_well(
    s3: S3Server, proxy: Faulting
) -> None:
    store = BucketStore(s3.location(s3.new_bucket(), endpoint=proxy.endpoint, ca_file=None))
    proxy.fault(SLOW_DOWN, times=6)
    written(store, "a/large", LARGE)
    assert proxy.answered == 6
    assert whole(store, "a/large") == LARGE


@pytest.mark.parametrize("name", ["clock", "denied", "token", "slow"])
@pytest.mark.parametrize("call", ["data", "manifest"])
def test_a_run_that_is_refused_publishes_nothing_and_the_next_one_does(
    s3: S3Server, proxy: Faulting, tmp_path: Path, name: str, call: str
) -> None:
    location = s3.location(s3.new_bucket(), endpoint=proxy.endpoint, ca_file=None)
    here = Stage(tmp_path, BucketStore(location, patience=timedelta(seconds=0.2)))
    answer, kind, words, _ = EXPECTED[name]
    proxy.fault(answer, only=lambda method, path: method in ("PUT", "POST") and f"/{call}." in path)
    with pytest.raises(kind, match=words):
        here.publish(FakeBackupSource(LARGE))
    assert proxy.answered
    proxy.fault(None)
    assert here.publish(FakeBackupSource(LARGE)) is not None
    view = Catalog(here.store, TRUST).read(SCOPE)
    assert (len(view.backups), view.faults) == (1, ())
    assert view.backups[0].good
    seen(
        "A backup",
        f"S3 {words}",
        f"its {call}",
        leaves="nothing of it",
        then="it tells what to do; the next run publishes it",
    )
