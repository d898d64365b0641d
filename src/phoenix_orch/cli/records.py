"""Recordings for the commands that look at recorded observations: from a running Phoenix or from files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from phoenix_orch.client.reads import Reads
from phoenix_orch.health_validator.csv_recording import read_csv
from phoenix_orch.health_validator.observation import Observation
from phoenix_orch.health_validator.recording import Recording, read_jsonl
from phoenix_orch.kernel import config, files
from phoenix_orch.kernel.config_file import read
from phoenix_orch.kernel.errors import Invalid, NotFound
from phoenix_orch.kernel.units import parse_duration
from phoenix_orch.orchestrator import released
from phoenix_orch.orchestrator.config import PhoenixFile
from phoenix_orch.orchestrator.released import LOG
from phoenix_orch.rollout.spec import RolloutSpec

OWN, GATES = "own", ("statistical", "literal")


def of_release(client: Reads, name: str, number: int | None = None) -> Recording:
    """What was observed of one release: the one on its way, the last one, or the one of that number.

    Raises NotFound when there is no such release, or nothing of it is kept any more.
    """
    view = client.rollout(name)
    wanted = released.sought(view, client.history(name, limit=released.ENDED), number)
    found = client.observations(name, since=wanted.reach, limit=LOG)
    if wanted.lacks_past(found):
        found = client.observations(name, limit=LOG)
    return released.recording(wanted, found)


def since(client: Reads, name: str, text: str) -> list[Observation]:
    """All that was observed since a moment, or for so long."""
    now = client.rollout(name).at
    return client.observations(name, since=moment(text, now), limit=LOG)


def moment(text: str, now: datetime) -> datetime:
    """`2h` (ago) or an ISO 8601 moment. Raises Invalid."""
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(
            f"{text!r} is neither a moment nor a length of time",
            remedy="write 2026-03-01T12:00:00Z, or 2h for two hours ago",
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def from_files(paths: Sequence[Path]) -> list[Recording]:
    """The releases in JSON lines and CSV files. Raises ConfigError with line and column."""
    found: list[Recording] = []
    for path in paths:
        name = files.name_of(path)
        with files.lines(path) as lines:
            several = _read(name, path, lines)
        found += (
            several
            if len(several) == 1
            else [replace(one, source=f"{name}#{number}") for number, one in enumerate(several, start=1)]
        )
    return found


def _read(name: str, path: Path, lines: Iterator[str]) -> tuple[Recording, ...]:
    """What it is shows in the first line that has something in it."""
    blank, first = 0, ""
    for line in lines:
        first = line
        if line.strip():
            break
        blank += 1
    read = read_jsonl if first.lstrip()[:1] in ("{", "") and path.suffix != ".csv" else read_csv
    return read(name, itertools.chain(itertools.repeat("", blank), [first] if first.strip() else [], lines))


def policies(record: Recording, first: str | None, second: str | None) -> list[tuple[str, RolloutSpec]]:
    """The one or two policies to judge a record by. A gate's word alone means the record's own policy with
    that gate, or where it has none the other one with it."""
    if second is None:
        return [policy(first, record)]
    if first in GATES and second not in GATES:
        later = policy(second, record)
        return [policy(first, record, later[1]), later]
    begin = policy(first, record)
    return [begin, policy(second, record, begin[1])]


def policy(text: str | None, record: Recording, base: RolloutSpec | None = None) -> tuple[str, RolloutSpec]:
    """The policy's name and spec: the record's own, that (or `base`) with another gate, or from a file.

    A file is a phoenix.yaml, of which the rollout counts that is named after `#` or like the record's, or
    it holds the fields of one rollout alone.
    """
    own = record.header.spec or base or RolloutSpec()
    if text is None:
        return (OWN if record.header.spec is not None else "guide"), own
    if text in GATES:
        return text, own.model_copy(update={"policy": own.policy.model_copy(update={"gate": text})})
    file, _, wanted = text.partition("#")
    source = read(Path(file))
    content = source.root.content
    if isinstance(content, dict) and "services" in content:
        return text, _of_file(config.validate(source, PhoenixFile), file, wanted or record.header.rollout)
    return text, config.validate(source, RolloutSpec)


def _of_file(found: PhoenixFile, file: str, wanted: str) -> RolloutSpec:
    rollouts = found.effective_rollouts()
    if wanted in rollouts:
        return rollouts[wanted].spec()
    if len(rollouts) == 1 and not wanted:
        return next(iter(rollouts.values())).spec()
    raise NotFound(
        f"{file} has no rollout {wanted!r}" if wanted else f"{file} has {len(rollouts)} rollouts",
        remedy=f"name one: {', '.join(f'{file}#{name}' for name in rollouts)}",
    )


def length(text: str, option: str) -> timedelta:
    """A duration from an option. Raises Invalid."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Invalid(f"{option}: {error}", remedy=f"for example {option} 10s") from None
