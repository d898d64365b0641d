"""The dump of real servers, as our client gets it: whole, by every framing, with the least rights."""

from __future__ import annotations

import hashlib
import subprocess
from functools import partial
from pathlib import Path

import pytest
from tests.redis_server import Server, filled, free_port, redis7, replica_of, serving, until, valkey

from phoenix_orch.kernel.errors import Forbidden, PhoenixError, Retryable, Terminal
from phoenix_orch.recovery.redis_address import RedisAddress, RedisTls
from phoenix_orch.recovery.sources.replication import Patience, replicate

CHECK = "valkey-check-rdb"


def checked(dump: bytes, directory: Path) -> str:
    """What the server's own tool says of a dump; it fails on damage."""
    program, file = directory / CHECK, directory / "copy.rdb"
    if not program.exists():
        program.symlink_to(valkey())
    file.write_bytes(dump)
    return subprocess.run([program, file], check=True, capture_output=True, text=True).stdout


def least(server: Server) -> RedisAddress:
    server.ask("ACL", "SETUSER", "backup", "reset", "on", ">hush-hush", "+psync", "+replconf", "+ping")
    return RedisAddress(port=server.port, username="backup", password="hush-hush")


@pytest.mark.parametrize("diskless", ["yes", "no"])
@pytest.mark.parametrize("binary", [valkey, redis7])
def test_least_rights_get_the_whole_dump(tmp_path, binary, diskless):
    with serving(tmp_path / "a", "--repl-diskless-sync", diskless, binary=binary()) as server:
        filled(server.client())
        with replicate(least(server)) as stream:
            dump = stream.read()
            assert stream.read(10) == b""
        assert len(stream.replication_id) == 40
        assert stream.offset >= 0
        assert (stream.length is None) == (diskless == "yes")
        assert stream.hello.mode == "standalone"
        assert stream.hello.version == stream.header.server_version
        assert stream.header.consistency_point is not None
        if stream.hello.server == "valkey":
            assert stream.header.format == "VALKEY080"
        assert "Checksum OK" in checked(dump, tmp_path) or "RDB looks OK" in checked(dump, tmp_path)
        expected, name = server.digest(), "again"
    (tmp_path / name).mkdir()
    (tmp_path / name / "dump.rdb").write_bytes(dump)
    with serving(tmp_path / name, "--dbfilename", "dump.rdb", binary=binary()) as again:
        assert again.digest() == expected


def test_a_dump_has_the_bytes_that_the_server_wrote(tmp_path):
    """With a file, `redis-cli --rdb` is the oracle; here the length and the checksum at the end are."""
    with serving(tmp_path / "a") as server:
        filled(server.client(), 2000)
        sums = set()
        for size in (1, 977, 1 << 20):
            with replicate(server.address) as stream:
                pieces = list(iter(partial(stream.read, size), b"")) if size > 1 else [stream.read()]
            dump = b"".join(pieces)
            assert max(map(len, pieces)) <= size or size == 1
            assert dump[-9] == 0xFF
            sums.add(len(dump))
            checked(dump, tmp_path)
        assert len(sums) == 1


def test_data_that_only_a_new_server_knows_is_in_the_dump(tmp_path):
    with serving(tmp_path / "a") as server:
        server.ask("HSET", "h", "f", "v", "g", "w")
        assert server.ask("HEXPIRE", "h", 100000, "FIELDS", 1, "f") == [1]
        with replicate(least(server)) as stream:
            dump = stream.read()
        assert dump.startswith(b"VALKEY")
        checked(dump, tmp_path)


def test_a_replica_gives_the_dump_too(tmp_path):
    with serving(tmp_path / "a") as primary, replica_of(primary, tmp_path / "b") as replica:
        filled(primary.client())
        primary.ask("WAIT", 1, 5000)
        with replicate(replica.address) as stream:
            checked(stream.read(), tmp_path)
        assert stream.hello.role == "replica"
        assert stream.replication_id == primary.client().info("replication")["master_replid"]


def test_rdb_files_of_the_server_have_the_same_keys(tmp_path):
    with serving(tmp_path / "a", "--dbfilename", "own.rdb") as server:
        filled(server.client())
        server.ask("SAVE")
        with replicate(server.address) as stream:
            dump = stream.read()
        own = (tmp_path / "a" / "own.rdb").read_bytes()
        assert abs(len(own) - len(dump)) < 300  # the fields at the beginning differ


@pytest.mark.parametrize(
    ("user", "password", "words"),
    [
        ("backup", "wrong", "refuses the user or the password"),
        ("", "", "wants a login"),
        ("blind", "hush-hush", "does not let this user do it: PSYNC"),
    ],
)
def test_who_may_not_is_told_what_is_missing(tmp_path, user, password, words):
    with serving(tmp_path / "a") as server:
        least(server)
        server.ask("ACL", "SETUSER", "blind", "reset", "on", ">hush-hush", "+ping", "+replconf")
        server.ask("ACL", "SETUSER", "default", "off")
        address = RedisAddress(port=server.port, username=user, password=password)
        with pytest.raises((Terminal, Forbidden)) as caught, replicate(address):
            pass
    assert words in caught.value.message
    assert f"127.0.0.1:{server.port}" in caught.value.message
    assert caught.value.remedy
    assert "hush" not in str(caught.value)
    assert "wrong" not in str(caught.value).replace("WRONGPASS", "")


def test_a_password_where_there_is_none_is_told(tmp_path):
    with (
        serving(tmp_path / "a", binary=redis7()) as server,
        pytest.raises(Terminal, match="has no password"),
        replicate(RedisAddress(port=server.port, password="superfluous")),
    ):
        pass


def test_a_replica_without_its_primary_is_told(tmp_path):
    with (
        serving(tmp_path / "a", "--replicaof", "127.0.0.1 1") as server,
        pytest.raises(Retryable, match="without a link to its primary"),
        replicate(server.address),
    ):
        pass


def test_nobody_there_is_told():
    with pytest.raises(Retryable, match=r"127\.0\.0\.1:1 cannot be reached"), replicate(RedisAddress(port=1)):
        pass


def test_a_killed_server_is_an_error_that_says_how_far_it_came(tmp_path):
    with serving(tmp_path / "a", "--rdb-key-save-delay", "1000") as server:
        filled(server.client(), 2000)
        with replicate(server.address) as stream:
            stream.read(1000)
            server.process.kill()
            with pytest.raises(Retryable) as caught:
                stream.read()
    assert f"after {stream.received:,} bytes" in caught.value.message


def test_a_killed_child_is_an_error(tmp_path):
    with serving(tmp_path / "a", "--rdb-key-save-delay", "10000") as server:
        filled(server.client(), 300)
        with replicate(server.address, Patience(silence=5)) as stream:
            stream.read(1000)
            children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
            subprocess.run(["kill", "-9", *children.split()], check=True)
            with pytest.raises(Retryable):
                stream.read()


def test_leaving_early_ends_the_child_of_the_server(tmp_path):
    with serving(tmp_path / "a", "--rdb-key-save-delay", "10000") as server:
        filled(server.client(), 2000)
        with replicate(server.address) as stream:
            stream.read(10)
        until(lambda: server.client().info("persistence")["rdb_bgsave_in_progress"] == 0)


def test_a_unix_socket_serves_as_well(tmp_path):
    with serving(tmp_path / "a", "--unixsocket", str(tmp_path / "s")) as server:
        server.ask("SET", "a", "b")
        address = RedisAddress(socket=str(tmp_path / "s"))
        with replicate(address) as stream:
            assert b"REDIS" in stream.read() or stream.header.magic == "VALKEY"


# -- TLS -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)

    new = ("-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    openssl(
        "req",
        "-x509",
        *new,
        "-days",
        "2",
        "-subj",
        "/CN=test authority",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    )
    for name in ("server", "client"):
        openssl("req", *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.crt")
    return folder


def tls_server(tmp_path: Path, folder: Path, binary: Path) -> object:
    port = str(free_port())
    files = [
        word
        for name, file in (
            ("cert-file", "server.crt"),
            ("key-file", "server.key"),
            ("ca-cert-file", "ca.crt"),
        )
        for word in (f"--tls-{name}", str(folder / file))
    ]
    return serving(tmp_path / "a", "--tls-port", port, *files, binary=binary), int(port)


def test_tls_with_a_certificate_of_our_own(tmp_path, certificates):
    context, port = tls_server(tmp_path, certificates, redis7())
    with context as server:
        filled(server.client())
        tls = RedisTls(certificates / "ca.crt", certificates / "client.crt", certificates / "client.key")
        with replicate(RedisAddress(port=port, tls=tls)) as stream:
            checked_bytes = stream.read()
        assert hashlib.sha256(checked_bytes).digest()
        assert checked_bytes[-9] == 0xFF

        def refused(**options: object) -> PhoenixError:
            with (
                pytest.raises(PhoenixError) as caught,
                replicate(RedisAddress(port=port, **options), Patience(silence=3)),
            ):
                pass
            return caught.value

        assert "cannot be trusted over TLS" in refused(tls=RedisTls()).message
        assert refused(tls=RedisTls(certificates / "ca.crt")).message
        assert "closed the connection" in refused().message or "reset" in refused().message
        elsewhere = RedisAddress("localhost", port, tls=tls)
        with pytest.raises(Terminal, match="TLS"), replicate(elsewhere):
            pass
