"""From a bucket behind TLS into a server that speaks TLS alone: with keys, certificates and a password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from tests.backup_stage import IDENTITY, SIGNER, Stage
from tests.cluster.certificates import Authority, write_private
from tests.integration.s3_server import ACCESS, SECRET, s3_server
from tests.redis_restoring import taken
from tests.redis_server import filled, free_port, redis7, serving, until

from phoenix_orch.kernel.errors import PhoenixError, Retryable, Terminal
from phoenix_orch.orchestrator.redis_restore import How, RedisRestore
from phoenix_orch.recovery.object_store import BucketStore
from phoenix_orch.recovery.restore.journal import State
from phoenix_orch.recovery.restore.redis_keys import Conflict, Selection

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PASSWORD = "of the target"
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET, "TARGET": PASSWORD}


@contextmanager
def tls_alone(folder: Path) -> Iterator[tuple[Redis, str, Path]]:
    """A server without a port in clear: a client of it, its address, and its authority."""
    folder.mkdir()
    authority = Authority(folder)
    pair = authority.server("127.0.0.1", "localhost")
    certificate = write_private(folder / "tls.crt", pair.certificate)
    key = write_private(folder / "tls.key", pair.key)
    port = free_port()
    options = {
        "--port": 0,
        "--tls-port": port,
        "--tls-cert-file": certificate,
        "--tls-key-file": key,
        "--tls-ca-cert-file": authority.certificate_file,
        "--tls-auth-clients": "no",
        "--requirepass": PASSWORD,
    }
    words = [str(word) for pair in options.items() for word in pair]
    with serving(folder / "server", *words, binary=redis7()) as server:
        client = Redis(
            port=port,
            password=PASSWORD,
            ssl=True,
            ssl_ca_certs=str(authority.certificate_file),
            decode_responses=True,
        )

        def answers() -> bool:
            try:
                return bool(client.ping())
            except OSError:
                return False
            except Exception as error:
                if "refused" in str(error):
                    return False
                raise

        until(answers, server.log)
        yield client, f"127.0.0.1:{port}", authority.certificate_file


def test_a_bucket_and_a_server_behind_tls(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    (tmp_path / "key").write_text(f"{IDENTITY.key}\n")
    with s3_server(tmp_path / "s3") as s3, tls_alone(tmp_path / "target") as (client, address, authority):
        bucket = s3.new_bucket()
        with serving(tmp_path / "origin", binary=redis7()) as origin:
            filled(origin.client(), 40)
            digest = origin.digest()
            at = Stage(tmp_path / "unused", BucketStore(s3.location(bucket, prefix="team/")))
            taken(at, origin.address)
            at.store.delete("locks/local/default/redis/cache.json")  # of a fake lease
        client.set("old", "data")
        how = How(
            storage=f"s3://{bucket}/team",
            endpoint=s3.endpoint,
            ca=str(s3.ca_file),
            identity=str(tmp_path / "key"),
            signed_by=(SIGNER.public,),
            component="redis/cache",
            target=address,
            password_env="TARGET",
            target_ca=str(authority),
        )
        told: list[str] = []
        restores = RedisRestore(tmp_path / "data", ENVIRONMENT, by="test", tell=told.append)
        plan = restores.plan(how, "latest", None, dead=False)
        assert not plan.blocked
        assert restores.look(plan.id).hash == plan.hash
        assert client.get("old") == "data"
        done = restores.run(plan.id, plan.hash)
        assert (done.state, client.execute_command("DEBUG", "DIGEST")) == (State.DONE, digest)
        client.delete("string:1")
        selection = Selection("string:*", conflict=Conflict.SKIP)
        counted = restores.keys(how, "latest", None, selection, "")
        assert (counted.restored, counted.skipped) == (1, 39)
        restores.keys(how, "latest", None, selection, counted.hash)
        assert client.execute_command("DEBUG", "DIGEST") == digest

        def refused(**more: object) -> PhoenixError:
            with pytest.raises(PhoenixError) as caught:
                restores.plan(how.model_copy(update=more), "latest", None, dead=False)
            return caught.value

        assert isinstance(refused(target_ca=str(s3.ca_file)), Terminal)  # another authority
        assert isinstance(refused(target_ca=None), Retryable)  # in clear
        assert "is not trusted" in refused(ca=str(authority)).message
        assert "refuses the user or the password" in refused(password_env="AWS_ACCESS_KEY_ID").message
        client.config_set("tls-replication", "yes")
        plan = restores.plan(how, "latest", None, dead=False)
        assert [look.check for look in plan.blocked] == ["tls"]
        own = {"listen_cert": authority.with_name("tls.crt"), "listen_key": authority.with_name("tls.key")}
        shown = {name: str(file) for name, file in own.items()}
        client.set("old", "data")
        plan = restores.plan(how.model_copy(update=shown), "latest", None, dead=False)
        done = restores.run(plan.id, plan.hash)
        assert (done.state, client.execute_command("DEBUG", "DIGEST")) == (State.DONE, digest)
        assert not [words for words in told if PASSWORD in words or SECRET in words]
