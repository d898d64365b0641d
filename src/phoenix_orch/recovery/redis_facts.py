"""What a Redis or Valkey server says of itself (`INFO`), as far as recovery decides by it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from phoenix_orch.kernel.masking import MASK, looks_secret


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica as its primary sees it."""

    host: str
    port: int
    state: str
    """`online`, or what it waits for."""
    offset: int
    lag: int
    """Seconds since it was last heard; -1 when it never was."""


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """One server at one moment. Sizes are bytes; 0 where it does not say."""

    server: str
    """`valkey` or `redis`."""
    version: str
    mode: str
    """`standalone`, `cluster` or `sentinel`."""
    role: str
    """`master` or `slave`, in the words of INFO."""
    run_id: str
    replication_id: str = ""
    offset: int = 0
    """Of the replication stream: what a primary has written, what a replica has read."""
    replicas: tuple[Replica, ...] = ()
    primary: tuple[str, int] | None = None
    link_up: bool = False
    """Of a replica: it hears its primary and has all its data."""
    silence: int = -1
    """Seconds since a replica last heard its primary."""
    used_memory: int = 0
    resident: int = 0
    max_memory: int = 0
    eviction: str = ""
    """`maxmemory-policy`."""
    system_memory: int = 0
    last_cow: int = 0
    """Memory that the last fork cost."""
    loading: bool = False
    saving: bool = False
    rewriting: bool = False
    append_only: bool = False
    databases: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Keys, and keys with a TTL, by database."""
    modules: tuple[str, ...] = ()
    loaded: int | None = None
    """Keys of the last load; servers before 7.0 do not say."""
    expired: int = 0
    """Keys that the last load left out, as their time was over."""

    @property
    def keys(self) -> int:
        return sum(keys for keys, _ in self.databases.values())

    @property
    def expires(self) -> int:
        return sum(expires for _, expires in self.databases.values())


def from_info(info: Mapping[str, Any]) -> RedisFacts:
    """From INFO as redis-py reads it. What an older server does not say is 0, empty or False."""

    def number(name: str, default: int = 0) -> int:
        value = info.get(name, default)
        return value if isinstance(value, int) else default

    def text(name: str) -> str:
        return str(info.get(name, ""))

    valkey = text("valkey_version")
    slave = text("role") == "slave"
    return RedisFacts(
        server="valkey" if valkey else "redis",
        version=valkey or text("redis_version"),
        mode=text("server_mode") or text("redis_mode") or "standalone",
        role=text("role"),
        run_id=text("run_id"),
        replication_id=text("master_replid"),
        offset=number("slave_repl_offset" if slave else "master_repl_offset"),
        replicas=tuple(_replicas(info)),
        primary=(text("master_host"), number("master_port")) if slave else None,
        link_up=text("master_link_status") == "up" and not number("master_sync_in_progress"),
        silence=number("master_last_io_seconds_ago", -1),
        used_memory=number("used_memory"),
        resident=number("used_memory_rss"),
        max_memory=number("maxmemory"),
        eviction=text("maxmemory_policy"),
        system_memory=number("total_system_memory"),
        last_cow=number("rdb_last_cow_size"),
        loading=bool(number("loading")),
        saving=bool(number("rdb_bgsave_in_progress")),
        rewriting=bool(number("aof_rewrite_in_progress")),
        append_only=bool(number("aof_enabled")),
        databases=dict(_databases(info)),
        modules=tuple(sorted(_modules(info))),
        loaded=number("rdb_last_load_keys_loaded") if "rdb_last_load_keys_loaded" in info else None,
        expired=number("rdb_last_load_keys_expired"),
    )


def _replicas(info: Mapping[str, Any]) -> Iterator[Replica]:
    for name, value in info.items():
        if name.startswith("slave") and name[5:].isdecimal() and isinstance(value, Mapping):
            yield Replica(
                host=str(value.get("ip", "")),
                port=int(value.get("port", 0)),
                state=str(value.get("state", "")),
                offset=int(value.get("offset", 0)),
                lag=int(value.get("lag", -1)),
            )


def _databases(info: Mapping[str, Any]) -> Iterator[tuple[int, tuple[int, int]]]:
    for name, value in info.items():
        if name.startswith("db") and name[2:].isdecimal() and isinstance(value, Mapping):
            yield int(name[2:]), (int(value.get("keys", 0)), int(value.get("expires", 0)))


def _modules(info: Mapping[str, Any]) -> Iterator[str]:
    found = info.get("modules", ())
    for module in found if isinstance(found, list | tuple) else ():
        name = str(module.get("name", "")) if isinstance(module, Mapping) else ""
        if name and name != "lua":  # the engine for scripts, which every Valkey 9 has
            yield name


def shown_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """`CONFIG GET *` as it may stand in a manifest: passwords are masked."""
    return {name: MASK if value and _is_password(name) else value for name, value in sorted(settings.items())}


def _is_password(name: str) -> bool:
    """`requirepass`, `masterauth`, `primaryauth`, `tls-key-file-pass`, and what modules may have."""
    return looks_secret(name) or "pass" in name or name.endswith("auth")


def shown_user(rule: str) -> str:
    """A line of `ACL LIST` as it may stand in a manifest: without hashes of passwords."""
    return " ".join(MASK if word[:1] in "#>" else word for word in rule.split(" "))
