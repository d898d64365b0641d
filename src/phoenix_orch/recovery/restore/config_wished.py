"""The objects of a backup, with the values of their Secrets: only here are they opened, and for a restore."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.kube.resources import Object
from phoenix_orch.recovery.canonical_yaml import written
from phoenix_orch.recovery.config_repository import ConfigRepository
from phoenix_orch.recovery.errors import Corrupted
from phoenix_orch.recovery.restore.config_plan import KIND_OF, name_of
from phoenix_orch.recovery.secret_values import Identity, opened
from phoenix_orch.recovery.sources.config_objects import KINDS

PRIVATE = 0o600


def wished(
    repository: ConfigRepository,
    commit: str,
    identities: Sequence[Identity],
    namespaces: Sequence[str] = (),
) -> list[Object]:
    """The objects at a commit, of these namespaces or of all, in the order in which they are put back.

    Kinds that only a person chose to back up are left out: their files are applied by hand. Raises
    WrongKey, Corrupted, and NotFound where a namespace that was named has nothing.
    """
    found: list[Object] = []
    for path, sha in repository.files(commit).items():
        place, _, rest = path.partition("/")
        kind = rest.partition("/")[0]
        if not path.endswith(".yaml") or kind not in KIND_OF or (namespaces and place not in namespaces):
            continue
        content = repository.content(sha)
        one = opened(content, identities) if kind == "Secret" else _read(content, path)
        one["metadata"]["namespace"] = place
        found.append(one)
    empty = set(namespaces) - {name_of(one).namespace for one in found}
    if empty:
        raise NotFound(
            f"the backup has nothing of namespace {', '.join(sorted(empty))}",
            remedy="see: phoenix backup config show",
        )
    return in_order(found)


def in_order(objects: Iterable[Object]) -> list[Object]:
    """What others refer to first."""
    places = {resource.kind: place for place, resource in enumerate(KINDS)}
    return sorted(objects, key=lambda one: (name_of(one).namespace, places[one["kind"]], name_of(one).name))


def rendered(objects: Iterable[Object], head: Sequence[str]) -> Iterator[str]:
    """YAML that `kubectl apply -f` takes, with `head` as comments before it."""
    yield "".join(f"# {line}\n" for line in head)
    for one in objects:
        yield "---\n"
        yield written(one)


def write(path: Path, texts: Iterable[str]) -> None:
    """For its owner alone, in one piece, in place of what was there: values of Secrets are in it.

    Raises Invalid where it cannot be.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(texts)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise Invalid(
            f"{path} cannot be written: {error.strerror}", remedy="name a file in a folder that is there"
        ) from error


def _read(content: bytes, path: str) -> Object:
    try:
        found = YAML(typ="safe", pure=True).load(content.decode())
        name_of(found)
    except (YAMLError, ValueError, Invalid):
        raise Corrupted(f"{path} of the backup is no object of Kubernetes") from None
    return dict(found)
