"""Configuration as something that is backed up: committed to Git here, given away as a bundle of it all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from phoenix_orch.kernel.errors import BadState, NotFound, Terminal
from phoenix_orch.recovery import sign_key, value_digests
from phoenix_orch.recovery.backup_source import Facts
from phoenix_orch.recovery.canonical_yaml import written
from phoenix_orch.recovery.config_draft import README, Committed, Draft, begin, drafting
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.objects import Reader
from phoenix_orch.recovery.secret_values import sealed, sealed_bytes
from phoenix_orch.recovery.sources.config_items import Document, File, Item, Items, Tally
from phoenix_orch.runtime.files import make_private

REPOSITORY = "config.git"
SEALED_KEY = ".phoenix/digest-key.age"
_SIGNS_OF_KEY = ".phoenix/digest-key.digests"

LastBundle = Callable[[], AbstractContextManager[Reader] | None]
"""The newest bundle that was backed up, opened; None where there has never been one."""


class ConfigSource:
    """See `BackupSource`."""

    component = "config"

    def __init__(
        self,
        state: Path,
        items: Items,
        recipients: Sequence[str],
        *,
        last_bundle: LastBundle,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`state`: a directory of this machine. `recipients`: age public keys, as text."""
        self._state = state
        self._items = items
        self._recipients = sign_key.recipients_in_order(recipients)
        self._last_bundle = last_bundle
        self._now = now

    @contextlib.contextmanager
    def capture(self) -> Iterator[ConfigCapture]:
        """Commit what there is now; the capture is a bundle of the whole history."""
        at = self._now()
        make_private(self._state)
        with self._repository(at) as repository:
            tally = Tally()
            committed = self._commit(repository, at, tally)
            yield ConfigCapture(repository, self._facts(at, committed, tally))

    @contextlib.contextmanager
    def _repository(self, at: datetime) -> Iterator[ConfigRepository]:
        """As it is, or rebuilt from the last bundle, or begun where there has never been one."""
        directory = self._state / REPOSITORY
        try:
            found = ConfigRepository.open(directory)
        except (NotFound, Corrupted) as error:
            found = self._anew(directory, at, error)
        with found:
            yield found

    def _anew(self, directory: Path, at: datetime, error: NotFound | Corrupted) -> ConfigRepository:
        bundle = self._last_bundle()
        if bundle is not None:
            with bundle as source:
                return ConfigRepository.rebuild(directory, source.read, f".torn-{at:%Y%m%dT%H%M%SZ}")
        if isinstance(error, Corrupted):
            raise Terminal(
                f"{error.message}, and there is no backup of it",
                remedy=f"move {directory} away to begin a new history",
            ) from error
        return begin(directory, at)

    def _commit(self, repository: ConfigRepository, at: datetime, tally: Tally) -> Committed:
        key = sign_key.kept(sign_key.where(self._state))
        with drafting(repository) as draft:
            draft.put("README.md", README.encode())
            filling = _Filling(draft, key, self._recipients, at)
            filling.secret(SEALED_KEY, _SIGNS_OF_KEY, key.hex().encode())
            with self._items.read(tally) as items:
                for item in items:
                    filling.add(item)
            filling.owners()
            return draft.commit(at)

    def _facts(self, at: datetime, committed: Committed, tally: Tally) -> Facts:
        return Facts(
            consistency_point=at,
            engine={"name": "git", "format": "bundle v2", "library": f"dulwich {version('dulwich')}"},
            content={
                "objects": tally.kinds.total(),
                "kinds": dict(sorted(tally.kinds.items())),
                "leftOut": dict(sorted(tally.left_out.items())),
                "notServed": sorted(tally.not_served),
                "commit": committed.commit,
                "tree": committed.tree,
                "changed": committed.new,
                "files": committed.files,
            },
            source=self._items.source,
            measures=("objects",),
        )


class _Filling:
    """Items into a draft. What did not change keeps its bytes, sealed or not."""

    def __init__(self, draft: Draft, key: bytes, recipients: Sequence[str], at: datetime) -> None:
        self._draft, self._key, self._recipients, self._at = draft, key, recipients, at
        self._owners: dict[str, list[str]] = {}

    def add(self, item: Item) -> None:
        if isinstance(item, File):
            self.secret(item.path, f"{item.path.removesuffix('.sops')}.digests", item.content)
            return
        if item.owners:
            place, _, name = item.path.partition("/")
            self._owners.setdefault(place, []).extend(
                f"{name.removesuffix('.yaml')} belongs to {owner}" for owner in item.owners
            )
        if not item.sealed:
            self._draft.put(item.path, written(item.content).encode())
            return
        self._sealed(item)

    def _sealed(self, item: Document) -> None:
        beside = f"{item.path.removesuffix('.yaml')}.digests"
        signs = value_digests.of_document(item.content, item.path, self._key, self._recipients)
        if not self._unchanged(item.path, beside, signs):
            self._draft.put(item.path, sealed(item.content, self._recipients, self._at).encode())

    def secret(self, path: str, beside: str, content: bytes) -> None:
        """A file that is sealed as a whole."""
        signs = value_digests.of_content(content, path, self._key, self._recipients)
        if not self._unchanged(path, beside, signs):
            self._draft.put(path, sealed_bytes(content, self._recipients, self._at))

    def _unchanged(self, path: str, beside: str, signs: str) -> bool:
        same = path in self._draft.former and self._draft.same(beside, signs.encode())
        self._draft.put(beside, signs.encode())
        if same:
            self._draft.keep(path)
        return same

    def owners(self) -> None:
        """Who made what: they may make it again, and otherwise."""
        for place, lines in self._owners.items():
            self._draft.put(f"{place}/owners.txt", "".join(f"{line}\n" for line in sorted(lines)).encode())


class ConfigCapture:
    """See `Capture`."""

    name = "config.bundle"
    estimate = 0  # it is made while it is read, and small

    def __init__(self, repository: ConfigRepository, facts: Facts) -> None:
        self._repository = repository
        self._pieces = repository.bundle()
        self._facts = facts

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes. Raises Corrupted; the repository is rebuilt at the next capture then."""
        try:
            return self._pieces.read(size)
        except Corrupted as error:
            self._repository.condemn(error.message)
            raise

    def facts(self) -> Facts:
        if not self._pieces.ended:
            raise BadState("the facts of a copy are known when it was read to its end")
        return self._facts
