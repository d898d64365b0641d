"""A byte changes on its way to S3, in a proxy that ends TLS or in clear: nothing of it counts as a backup."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.backup_stage import IDENTITY, SCOPE, TRUST, Stage
from tests.integration.faulting_s3 import Faulting, faulting
from tests.integration.s3_server import S3Server, s3_server

from phoenix_orch.kernel.errors import PhoenixError
from phoenix_orch.recovery.catalog import Catalog
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.manifest import Level
from phoenix_orch.recovery.object_store import PART, BucketStore
from phoenix_orch.testing.fake_backup import FakeBackupSource

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CONTENT = random.Random(3).randbytes(PART * 2 + 1_000_000)
"""Three parts."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=[True, False], ids=["in-a-proxy-that-ends-tls", "in-clear"])
def between(s3: S3Server, request: pytest.FixtureRequest) -> Iterator[Faulting]:
    with faulting(s3, secure=request.param) as proxy:
        yield proxy


class Bucket:
    """A bucket that is written through the proxy, and looked at past it."""

    def __init__(self, s3: S3Server, between: Faulting) -> None:
        name = s3.new_bucket()
        self.direct = BucketStore(s3.location(name))
        self.store = BucketStore(s3.location(name, endpoint=between.endpoint))

    def stage(self, *identities: Identity) -> Stage:
        return Stage(Path(), self.store, identities)

    def manifests(self) -> int:
        return sum(stat.key.endswith("/manifest.json") for stat in self.direct.list("v1/"))


@pytest.mark.parametrize("part", [1, 2, 3])
@pytest.mark.parametrize("identities", [(IDENTITY,), ()], ids=["with-a-key", "without"])
def test_a_part_of_the_data(
    s3: S3Server, between: Faulting, identities: tuple[Identity, ...], part: int
) -> None:
    """Also where no private key is at hand: then the digest of what was sent is compared."""
    bucket = Bucket(s3, between)
    at = bucket.stage(*identities)
    between.flip(lambda method, path: method == "PUT" and f"partNumber={part}" in path)
    with pytest.raises(PhoenixError):
        at.publish(FakeBackupSource(CONTENT))
    assert between.flipped
    assert bucket.manifests() == 0
    between.flip(lambda _method, _path: False)
    done = at.publish(FakeBackupSource(CONTENT))
    assert done is not None
    assert (done.look.passed, done.look.level) == (True, Level.OPENED if identities else Level.STORED)
    assert Catalog(bucket.direct, TRUST).read(SCOPE).faults == ()


def test_over_tls_it_is_found_by_what_is_read_back(s3: S3Server) -> None:
    """It has no checksum to compare a part with; this is what we rely on."""
    with faulting(s3, secure=True) as between:
        bucket = Bucket(s3, between)
        between.flip(lambda method, path: method == "PUT" and "partNumber=2" in path)
        with pytest.raises(Corrupted, match="what was stored does not hold"):
            bucket.stage(IDENTITY).publish(FakeBackupSource(CONTENT))
        assert between.flipped
        assert bucket.manifests() == 0


@pytest.mark.parametrize("name", ["/manifest.json", "/records/", "/claims/", "/locks/"])
def test_a_small_object(s3: S3Server, between: Faulting, name: str) -> None:
    """It is refused by the storage, since nobody would read it back."""
    bucket = Bucket(s3, between)
    between.flip(lambda method, path: method == "PUT" and name in path)
    at = bucket.stage(IDENTITY)
    if name == "/records/":  # what a look has found is no part of a backup
        assert at.publish(FakeBackupSource(b"content")) is not None
    else:
        with pytest.raises(PhoenixError):
            at.publish(FakeBackupSource(b"content"))
    assert between.flipped
    assert not [stat.key for stat in bucket.direct.list("") if name.strip("/") in stat.key]
    assert bucket.manifests() == (name == "/records/")
    between.flip(lambda _method, _path: False)
    assert at.publish(FakeBackupSource(b"content")) is not None
    assert Catalog(bucket.direct, TRUST).read(SCOPE).faults == ()


def test_a_small_object_that_is_replaced_stays_as_it_was(s3: S3Server, between: Faulting) -> None:
    bucket = Bucket(s3, between)
    bucket.store.create("a/b", b"one")
    etag = bucket.store.stat("a/b").etag
    between.flip(lambda method, _path: method == "PUT")
    with pytest.raises(PhoenixError) as caught:
        bucket.store.replace("a/b", b"two", etag)
    assert caught.value.remedy
    assert bucket.direct.get("a/b")[0] == b"one"
    with pytest.raises(PhoenixError):
        bucket.store.create("a/c", b"three")
    assert [stat.key for stat in bucket.direct.list("a/")] == ["a/b"]
