"""Rehearse the recovery of configuration: its history into an empty repository, every file of it opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.drill_copy import Fetched
from phoenix_orch.recovery.drill_report import Phase
from phoenix_orch.recovery.drill_steps import Ledger
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.keys import Identity
from phoenix_orch.recovery.secret_values import opened, opened_bytes

Try = Callable[[str, bytes], None]
"""Gets a file of the backup, by its path, in clear. Raises PhoenixError where it could not be put back."""
Accept = Callable[[ConfigRepository, str, Sequence[Identity]], str]
"""Asks a cluster about every object at a commit, without doing anything; in a line what it says. Raises
PhoenixError where it would refuse one."""
_REMEDY = "restore another backup of the configuration"
_SEALED_ENDS = (".sops", ".age")


def rehearsed(
    ledger: Ledger,
    copy: Fetched,
    into: Path,
    attempt: Try = lambda _path, _content: None,
    accept: Accept | None = None,
) -> None:
    """Into `into`, which is made. Raises StepFailedError."""
    with ledger.step(Phase.CONFIGURATION, copy.subject) as note:
        with copy.opened(note.moved, ledger.stop) as source:
            repository = ConfigRepository.rebuild(into, source.read, ".torn")
        with repository:
            head = repository.head().decode()
            wanted = copy.manifest.content.get("commit")
            if isinstance(wanted, str) and head != wanted:
                ends = f"the bundle ends at commit {head[:12]}"
                raise Corrupted(f"{ends}, and the copy was of {wanted[:12]}", remedy=_REMEDY)
            files = repository.files(head)
            count = copy.manifest.content.get("files")
            if isinstance(count, int) and len(files) != count:
                raise Corrupted(f"there are {len(files)} files, and {count} were there", remedy=_REMEDY)
            sealed = 0
            for path, sha in sorted(files.items()):
                content, was_sealed = in_clear(path, repository.content(sha), copy.identities)
                sealed += was_sealed
                attempt(path, content)
            said = f"; {accept(repository, head, copy.identities)}" if accept is not None else ""
        note.detail = f"{len(files)} files at commit {head[:12]}, {sealed} of them sealed and opened{said}"


def healthy(directory: Path) -> str:
    """In a line. Raises Corrupted, NotFound where the repository cannot be gone on with."""
    with ConfigRepository.open(directory) as repository:
        return f"stands at commit {repository.head().decode()[:12]}"


def in_clear(path: str, content: bytes, identities: Sequence[Identity]) -> tuple[bytes, bool]:
    """The file with its secrets, and whether it had any. Raises Corrupted, WrongKey."""
    keys = [one.key for one in identities]
    if path.endswith(_SEALED_ENDS):
        return opened_bytes(content, keys), True
    if not path.endswith(".yaml"):
        return content, False
    if path.split("/")[1:2] == ["Secret"]:
        opened(content, keys)
        return content, True
    try:
        YAML(typ="safe").load(content)
    except (YAMLError, ValueError):
        raise Corrupted(f"{path} of the backup is no YAML", remedy=_REMEDY) from None
    return content, False
