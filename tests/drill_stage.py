"""A bucket with copies of a real server, of configuration and of a folder, and drills on copies of it."""

from __future__ import annotations

import contextlib
import io
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dulwich.objects import Blob
from dulwich.pack import write_pack_objects
from tests.backup_stage import OFFLINE, RECIPIENTS, TRUST, Stage, stage
from tests.redis_server import Server, filled, serving

from phoenix_orch.recovery.backup_source import BackupSource, Capture, Facts
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.consistency_spec import CheckKind, FileCheck
from phoenix_orch.recovery.drill import Bucket, Drill, Expected, Terms
from phoenix_orch.recovery.drill_report import Phase, Report
from phoenix_orch.recovery.folder_store import FolderStore
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.objects import ObjectStore
from phoenix_orch.recovery.sources.config import ConfigSource
from phoenix_orch.recovery.sources.config_files import FileItems
from phoenix_orch.recovery.sources.files import FilesSource
from phoenix_orch.recovery.sources.redis import redis_sources
from phoenix_orch.recovery.sources.redis_spec import RedisSpec
from phoenix_orch.recovery.sources.volume_spec import Copy, VolumeSpec

REDIS, CONFIG, VOLUME = "redis/main", "config", "volume/shop"
EVERY = timedelta(hours=1)
SQLITE = FileCheck(kind=CheckKind.SQLITE, files="*.db")
EXPECTED = (
    Expected(CONFIG, EVERY, EVERY * 2),
    Expected(REDIS, EVERY, EVERY * 2),
    Expected(VOLUME, EVERY, EVERY * 2, (SQLITE,)),
)
KEYS = 40


@dataclass
class Altered:
    """A source whose content or facts are not what they should be, published as if they were."""

    source: BackupSource
    content: Callable[[bytes], bytes] = bytes
    facts: Callable[[Facts], Facts] = lambda facts: facts

    @property
    def component(self) -> str:
        return self.source.component

    @contextlib.contextmanager
    def capture(self) -> Iterator[Capture]:
        with self.source.capture() as capture:
            yield _Changed(capture, io.BytesIO(self.content(capture.read())), self.facts)


class _Changed:
    def __init__(self, capture: Capture, content: io.BytesIO, facts: Callable[[Facts], Facts]) -> None:
        self.name, self.estimate = capture.name, capture.estimate
        self.read = content.read
        self._capture = capture
        self._facts = facts

    def facts(self) -> Facts:
        self._capture.read()  # its end
        return self._facts(self._capture.facts())


def counted_otherwise(facts: Facts) -> Facts:
    """One key more than there is, and no estimate."""
    content = {name: value for name, value in facts.content.items() if name != "counted"}
    return replace(facts, content={**content, "keys": content["keys"] + 1})


def with_broken_object(bundle: bytes, scratch: Path) -> bytes:
    """The bundle with a file whose content is another one than its hash says; its own checksum holds."""
    with ConfigRepository.rebuild(scratch, io.BytesIO(bundle).read, ".torn") as repository:
        head = repository.head()
        objects = [repository.store[sha] for sha in repository.store]
    for number, one in enumerate(objects):
        if isinstance(one, Blob) and one.data.startswith(b"The configuration"):
            objects[number] = Blob.from_string(one.data + b"changed\n")
    out = io.BytesIO()
    out.write(b"# v2 git bundle\n" + head + b" refs/heads/main\n\n")
    write_pack_objects(
        out.write, [(one, None) for one in objects], object_format=repository.store.object_format
    )
    return out.getvalue()


@dataclass
class Origin:
    """What is backed up, and the bucket with two good copies of each."""

    folder: Path
    server: Server
    stage: Stage

    def redis(self) -> BackupSource:
        return redis_sources("main", self.server.address, RedisSpec(address=str(self.server.address)))[0]

    def config(self, state: str = "state") -> BackupSource:
        file = self.folder / "applied.json"
        return ConfigSource(
            self.folder / state,
            FileItems({path.name: path for path in (file, *self.folder.glob("serving.json"))}),
            [one.text for one in RECIPIENTS],
            last_bundle=lambda: None,
        )

    def volume(self) -> BackupSource:
        spec = VolumeSpec(path="shop", copy_by=Copy.DIRECT)
        return FilesSource(VOLUME, self.folder / "shop", spec, notes=self.folder / "notes")

    def copied(self, to: Path) -> Stage:
        """A bucket of its own for one test."""
        shutil.copytree(self.stage.folder, to, copy_function=shutil.copy2)
        return stage(to)


@contextlib.contextmanager
def origin(folder: Path, *, serving_config: str | None = None) -> Iterator[Origin]:
    """`serving_config`: what served, where it is kept beside what was applied."""
    (folder / "shop").mkdir(parents=True)
    if serving_config is not None:
        (folder / "serving.json").write_text(serving_config)
    (folder / "applied.json").write_text('{"services": {}}\n')
    with contextlib.closing(sqlite3.connect(folder / "shop" / "orders.db")) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT)")
        database.executemany("INSERT INTO orders (what) VALUES (?)", [(f"order {n}",) for n in range(2000)])
        database.commit()
    with serving(folder / "server") as server:
        filled(server.client(), KEYS)
        made = Origin(folder, server, stage(folder / "bucket"))
        for _ in range(2):
            for source in (made.redis(), made.config(), made.volume()):
                assert made.stage.publish(source) is not None
        yield made


def drill(
    store: ObjectStore,
    *,
    identity: Identity = OFFLINE,
    ahead: timedelta = timedelta(0),
    scratch: Path | None = None,
    **changes: Any,
) -> Drill:
    """Of whoever has the bucket, the public signing key and one private key, and nothing else."""
    terms = Terms(EXPECTED, timedelta(minutes=10), "test", lambda: datetime.now(UTC) + ahead, scratch)
    return Drill(Bucket(store, TRUST, [identity], "local", "default"), replace(terms, **changes))


def monthly(folder: Path, **options: Any) -> Report:
    return drill(FolderStore(folder), **options).monthly()


def failed(report: Report) -> Mapping[Phase, str]:
    """The steps that did not pass, and why."""
    return {step.phase: f"{step.component}: {step.detail}" for step in report.steps if not step.passed}
