"""What phoenix.yaml says of Redis, as sources that can be copied: with their passwords, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from phoenix_orch.kernel import files
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.recovery.backup_source import BackupSource
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.sources.redis_spec import RedisSpec, address_of

_LONGEST = 64 * 1024


def configured(
    specs: Mapping[str, RedisSpec], environment: Mapping[str, str]
) -> dict[str, Callable[[], BackupSource]]:
    """By component. Nothing is asked, and no password read, before one is called."""
    return {
        component: partial(_source, name, spec, number, environment)
        for name, spec in specs.items()
        for number, component in enumerate(spec.components(name))
    }


def login(spec: RedisSpec, environment: Mapping[str, str]) -> RedisAddress:
    """The server of `spec`, with its password. Raises Invalid."""
    password = ""
    if spec.password_env is not None:
        password = environment.get(spec.password_env, "")
        if not password:
            raise Invalid(f"there is no {spec.password_env} in the environment", remedy="set it")
    elif spec.password_file is not None:
        content = files.read(Path(spec.password_file), at_most=_LONGEST)
        password = content.decode("utf-8", "replace").partition("\n")[0].strip()
    return address_of(spec, password)


def _source(name: str, spec: RedisSpec, number: int, environment: Mapping[str, str]) -> BackupSource:
    from phoenix_orch.recovery.sources.redis import redis_sources  # noqa: PLC0415 - redis: 0.4 s

    found = redis_sources(name, login(spec, environment), spec)
    if len(found) != spec.shards:
        raise Invalid(
            f"{spec.address} has {len(found)} shards, and backup.redis.{name}.shards says {spec.shards}",
            remedy=f"write shards: {len(found)}",
        )
    return found[number]
