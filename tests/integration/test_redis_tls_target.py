"""A restore into a server that takes data over TLS alone: we are the primary that it has to trust."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.backup_stage import IDENTITY, stage
from tests.redis_restoring import find, restorer, taken
from tests.redis_server import Server, filled, redis7, serving, until
from tests.redis_servers import RELEASES
from tests.redis_tls import Authorities, Files, Secure, secured

from phoenix_orch.kernel.errors import BadState, Invalid, Terminal
from phoenix_orch.recovery.objects import Writer
from phoenix_orch.recovery.redis_address import RedisAddress
from phoenix_orch.recovery.redis_asking import asking
from phoenix_orch.recovery.restore import redis_target
from phoenix_orch.recovery.restore.feed_tls import Certificate
from phoenix_orch.recovery.restore.journal import State
from phoenix_orch.recovery.restore.redis_target import Listen, command_for, load, target_of
from phoenix_orch.recovery.sources.replication import replicate

pytestmark = pytest.mark.timeout(180)
FOREVER = 3600.0
"""Seconds to wait for the target: what is refused at once ends long before."""


def valkey8() -> Path:
    return next(one for one in RELEASES if one.name == "valkey 8.0").get()


def dump_of(server: Server) -> bytes:
    with replicate(server.address) as stream:
        return stream.read()


def poured(data: bytes) -> Callable[[Writer], None]:
    def pour(feed: Writer) -> None:
        for at in range(0, len(data), 65536):
            feed.write(data[at : at + 65536])

    return pour


def showing(files: Files) -> Listen:
    return Listen(certificate=Certificate(files.cert, files.key))


@pytest.fixture
def authority(tmp_path: Path) -> Authorities:
    return Authorities(tmp_path / "authority")


@pytest.fixture
def target(tmp_path: Path, authority: Authorities) -> Iterator[Secure]:
    with secured(tmp_path / "target", authority, binary=redis7()) as one:
        one.ask("SET", "old", "data")
        yield one


def unchanged(target: Secure) -> None:
    assert target.ask("GET", "old") == "data"
    assert target.client().dbsize() == 1
    assert target.client().info("replication")["role"] == "master"
    target.ask("SET", "old", "data")


@pytest.mark.parametrize("loading", ["disabled", "swapdb"])
@pytest.mark.parametrize("program", [redis7, valkey8])
def test_it_takes_the_data_from_who_it_trusts(tmp_path, authority, program, loading):
    binary = program()
    with serving(tmp_path / "origin", binary=binary) as origin:
        filled(origin.client(), 300)
        origin.client().set("huge", "x" * 20_000_000)  # many pieces, in which the line fills up
        data, digest = dump_of(origin), origin.digest()
    options = ("--repl-diskless-load", loading, "--rdbcompression", "no")
    with secured(tmp_path / "target", authority, *options, binary=binary) as target:
        filled(target.client(), 30, "old:")
        done = load(target.address, poured(data), listen=showing(authority.server()))
        assert (target.digest(), done.loaded, done.sent) == (digest, 2101, len(data))
        assert target.client().info("replication")["role"] == "master"


def test_its_replicas_follow_and_what_fails_goes_back(tmp_path, authority):
    """The whole story: plan, safety copy over TLS, cut-over, replicas, and once more with keys miscounted."""
    with serving(tmp_path / "origin", binary=redis7()) as origin:
        filled(origin.client(), 40)
        digest = origin.digest()
        backup = taken(stage(tmp_path / "bucket"), origin.address)
    with (
        secured(tmp_path / "target", authority, binary=redis7()) as target,
        secured(
            tmp_path / "replica", authority, "--replicaof", f"127.0.0.1 {target.port}", binary=redis7()
        ) as replica,
    ):
        until(lambda: replica.client().info("replication")["master_link_status"] == "up", replica.server.log)
        target.ask("SET", "old", "data")
        before = target.digest()
        options = {"listen": showing(authority.server())}
        acting = restorer(tmp_path / "bucket", tmp_path / "journal", (IDENTITY,), **options)
        copy = find(tmp_path / "bucket")(backup.manifest.id)
        plan = acting.plan(copy, target.address)
        assert not plan.blocked
        (look,) = [one for one in plan.looks if one.check == "tls"]
        assert "trusts" in look.found
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(acting), "_counted", _miscounted)
            with pytest.raises(Terminal, match="loaded 1 keys"):
                acting.run(plan.id, target.address, plan.hash)
        assert acting.journal.read(plan.id).state is State.UNDONE
        assert target.digest() == before
        plan = acting.plan(copy, target.address)
        done = acting.run(plan.id, target.address, plan.hash)
        assert (done.state, target.digest()) == (State.DONE, digest)
        until(lambda: replica.digest() == digest, replica.server.log)


def _miscounted(*_: object) -> None:
    raise Terminal("the target loaded 1 keys")


def test_whom_it_does_not_trust_it_refuses_at_once_and_is_let_go(tmp_path, authority, target):
    other = Authorities(tmp_path / "other")
    for files, words in (
        (other.server(), "unknown authority"),
        (authority.client("for-clients"), "certificate"),
    ):
        with pytest.raises(Terminal, match=f"does not trust .*{files.cert.name}: .*{words}") as caught:
            load(target.address, poured(b""), listen=showing(files), come_within=FOREVER)
        assert "--listen-cert" in caught.value.remedy
        unchanged(target)


def test_without_a_certificate_nothing_is_begun(tmp_path, target):
    followed: list[int] = []
    with pytest.raises(BadState, match="no certificate"):
        load(target.address, poured(b""), come_within=FOREVER, following=lambda: followed.append(1))
    assert not followed
    unchanged(target)


def test_a_target_that_does_not_tell_its_settings_is_understood_by_its_first_byte(
    tmp_path, authority, target
):
    target.ask("ACL", "SETUSER", "u", "on", ">pw", "+@all", "~*", "&*", "-config")
    address = RedisAddress(port=target.port, username="u", password="pw", tls=target.tls)
    with pytest.raises(Terminal, match="over TLS alone, and there is no certificate"):
        load(address, poured(b""), come_within=FOREVER)
    unchanged(target)
    with serving(tmp_path / "origin", binary=redis7()) as origin:
        filled(origin.client(), 10)
        data, digest = dump_of(origin), origin.digest()
    load(address, poured(data), listen=showing(authority.server()))
    assert target.digest() == digest


def test_a_damaged_copy_changes_nothing(tmp_path, authority, target):
    with serving(tmp_path / "origin", binary=redis7()) as origin:
        filled(origin.client(), 200)
        data = dump_of(origin)

    def pour(feed: Writer) -> None:
        poured(data)(feed)
        raise Terminal("the last byte is not what was written")

    with pytest.raises(Terminal, match="the last byte"):
        load(target.address, pour, listen=showing(authority.server()))
    unchanged(target)


def test_who_speaks_in_clear_gets_nothing(tmp_path, authority, target):
    with serving(tmp_path / "origin", binary=redis7()) as origin:
        filled(origin.client(), 10)
        data, digest = dump_of(origin), origin.digest()
    got: list[bytes] = []

    def come(port: int, words: bytes) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.settimeout(60)
            connection.sendall(words)
            with contextlib.suppress(OSError):
                got.append(b"".join(iter(lambda: connection.recv(65536), b"")))

    threads: list[threading.Thread] = []

    def strangers(client: object, host: str, port: int) -> None:
        asked = b"REPLCONF listening-port %d\r\nPSYNC ? -1\r\n" % target.port
        for words in (asked, b"\x16\x03\x01\x00\x02ab"):
            threads.append(threading.Thread(target=come, args=(port, words)))
            threads[-1].start()
        client.execute_command("REPLICAOF", host, port)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_target, "_follow", strangers)
        load(target.address, poured(data), listen=showing(authority.server()))
    for thread in threads:
        thread.join(60)
    assert target.digest() == digest
    assert not any(b"FULLRESYNC" in said or b"REDIS" in said for said in got)


def test_a_plan_looks_whether_it_would_be_trusted(tmp_path, authority, target):
    with serving(tmp_path / "origin", binary=redis7()) as origin:
        origin.ask("SET", "a", "b")
        backup = taken(stage(tmp_path / "bucket"), origin.address)
    copy = find(tmp_path / "bucket")(backup.manifest.id)
    other = Authorities(tmp_path / "other")

    def found(listen: Listen, address: RedisAddress | None = None) -> list[tuple[str, str, str]]:
        acting = restorer(tmp_path / "bucket", tmp_path / "journal", (IDENTITY,), listen=listen)
        plan = acting.plan(copy, address or target.address)
        return [(one.weight.value, one.found, one.remedy) for one in plan.looks if one.check == "tls"]

    ((weight, words, remedy),) = found(Listen())
    assert (weight, "there is no certificate" in words) == ("blocks", True)
    assert "--listen-cert" in remedy
    assert "CONFIG SET tls-replication no" in remedy
    for files, why in ((other.server(), "issuer"), (authority.client("a"), "purpose")):
        ((weight, words, remedy),) = found(showing(files))
        assert weight == "blocks"
        assert str(files.cert) in words
        assert why in words
    ((weight, words, _),) = found(showing(authority.server()))
    assert weight == "ok"
    target.ask("CONFIG", "SET", "tls-replication", "no")
    assert found(Listen()) == []
    unchanged(target)


def test_without_an_authority_of_ours_it_is_known_when_it_comes(tmp_path, authority):
    """Clients speak in clear, its replication does not."""
    binary = redis7()
    settings = ("--tls-ca-cert-file", str(authority.file), "--tls-replication", "yes")
    with serving(tmp_path / "origin", binary=binary) as origin:
        filled(origin.client(), 10)
        backup, digest = taken(stage(tmp_path / "bucket"), origin.address), origin.digest()
    own = authority.client("own")
    files = ("--tls-cert-file", str(own.cert), "--tls-key-file", str(own.key))
    with serving(tmp_path / "target", *settings, *files, binary=binary) as target:
        copy = find(tmp_path / "bucket")(backup.manifest.id)
        options = {"listen": showing(authority.server())}
        acting = restorer(tmp_path / "bucket", tmp_path / "journal", (IDENTITY,), **options)
        plan = acting.plan(copy, target.address)
        (look,) = [one for one in plan.looks if one.check == "tls"]
        assert (look.weight.value, "not known before it comes" in look.found) == ("warns", True)
        acting.run(plan.id, target.address, plan.hash)
        assert target.digest() == digest


def test_files_that_are_no_certificate_are_named(tmp_path, authority):
    nothing = tmp_path / "none.pem"
    with pytest.raises(Invalid, match=r"--listen-cert .*none\.pem"):
        Certificate(nothing).context()
    nothing.write_text("no certificate")
    with pytest.raises(Invalid, match=r"--listen-cert .*none\.pem"):
        Certificate(nothing).context()
    good = authority.server()
    with pytest.raises(Invalid, match=r"another\.key"):
        Certificate(good.cert, authority.server("another").key).context()
    with pytest.raises(Invalid, match=r"--tls-ca .*none\.pem"):
        Certificate(good.cert, good.key).distrust(nothing)
    assert Certificate(good.cert, good.key).distrust(authority.file) == ""


def test_the_way_by_hand_names_the_files(authority, target):
    line = command_for(target.address)
    for word in ("--tls", f"--cacert {authority.file}", "--cert ", "--key "):
        assert word in line
    with asking(target.address) as client:
        assert target_of(client).tls_replication
