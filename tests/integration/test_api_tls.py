"""The API over TLS: old versions, strangers, and certificates that change under connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import httpx
import pytest
from tests.cluster.certificates import Authority, Pair
from tests.integration.locked import Locked

from phoenix_orch.api import tls as api_tls
from phoenix_orch.api.tls import Tls
from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.security.rights import Role


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def written(pair: Pair, folder: Path, name: str) -> Tls:
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(pair.certificate)
    key.write_bytes(pair.key)
    return Tls(certificate, key)


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.certificate_file))


def seen_by(address: str, authority: Authority, context: ssl.SSLContext | None = None) -> tuple[bytes, str]:
    """(certificate, version of TLS) that a new connection sees."""
    url = httpx.URL(address)
    with (
        socket.create_connection((url.host, url.port), timeout=20) as plain,
        (context or trusting(authority)).wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        found = secured.getpeercert(binary_form=True)
        assert found is not None
        return found, secured.version() or ""


async def test_it_speaks_tls_and_none_older_than_1_2(tmp_path, authority):
    locked = Locked(tmp_path / "d")
    text = await locked.token(Role.VIEWER)
    tls = written(authority.server("127.0.0.1"), tmp_path, "server")
    async with locked.served(tls) as address:
        async with httpx.AsyncClient(verify=trusting(authority), timeout=20) as http:
            answer = await http.get(f"{address}/api/v1/version", headers={"authorization": f"Bearer {text}"})
            assert answer.status_code == 200
            assert answer.headers["strict-transport-security"]
        _, version = await asyncio.to_thread(seen_by, address, authority)
        assert version == "TLSv1.3"
        old = trusting(authority)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = ssl.TLSVersion.TLSv1_1
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(seen_by, address, authority, old)
        with pytest.raises(httpx.RemoteProtocolError):
            async with httpx.AsyncClient(timeout=20) as http:
                await http.get(f"{address.replace('https', 'http')}/api/v1/version")


async def test_a_new_certificate_is_seen_by_new_connections_and_breaks_no_old_one(
    tmp_path, authority, monkeypatch
):
    monkeypatch.setattr(api_tls, "LOOK", 0.02)
    locked = Locked(tmp_path / "d")
    headers = {"authorization": f"Bearer {await locked.token(Role.VIEWER)}"}
    first, second = authority.server("127.0.0.1"), authority.server("127.0.0.1")
    tls = written(first, tmp_path, "server")
    context = trusting(authority)
    async with locked.served(tls) as address, httpx.AsyncClient(verify=context, timeout=20) as http:
        async with http.stream("GET", f"{address}/api/v1/rollouts/web/stream", headers=headers) as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            before, _ = await asyncio.to_thread(seen_by, address, authority)
            tls.certificate.write_bytes(second.certificate)  # as half of it is there already
            await asyncio.sleep(0.1)
            assert (await asyncio.to_thread(seen_by, address, authority))[0] == before
            tls.key.write_bytes(second.key)
            async with asyncio.timeout(30):
                while (await asyncio.to_thread(seen_by, address, authority))[0] == before:
                    await asyncio.sleep(0.02)
            async with asyncio.timeout(30):
                assert await anext(lines) is not None
        tls.key.write_text("nothing")
        await asyncio.sleep(0.1)
        assert (await http.get(f"{address}/api/v1/version", headers=headers)).status_code == 200


async def test_clients_without_a_certificate_of_the_authority_get_as_far_as_nowhere(tmp_path, authority):
    locked = Locked(tmp_path / "d")
    served = written(authority.server("127.0.0.1"), tmp_path, "server")
    tls = Tls(served.certificate, served.key, authority.certificate_file)
    client = written(authority.user("ci"), tmp_path, "client")
    async with locked.served(tls) as address:
        with pytest.raises(httpx.HTTPError):
            async with httpx.AsyncClient(verify=trusting(authority), timeout=20) as http:
                await http.get(f"{address}/healthz/live")
        context = trusting(authority)
        context.load_cert_chain(client.certificate, client.key)
        async with httpx.AsyncClient(verify=context, timeout=20) as http:
            assert (await http.get(f"{address}/healthz/live")).status_code == 200
            assert (await http.get(f"{address}/api/v1/version")).status_code == 401, "it names nobody"


def test_what_is_no_certificate_is_refused_without_a_word_of_it(tmp_path, authority):
    good = written(authority.server("127.0.0.1"), tmp_path, "server")
    other = written(authority.server("127.0.0.1"), tmp_path, "other")
    bad = tmp_path / "bad"
    bad.write_text("s3cr3t")
    for tls in (
        Tls(bad, good.key),
        Tls(good.certificate, bad),
        Tls(good.certificate, other.key),
        Tls(good.certificate, tmp_path / "none"),
        Tls(good.certificate, good.key, bad),
    ):
        with pytest.raises(Invalid) as caught:
            api_tls.context_of(tls)
        assert "s3cr3t" not in str(caught.value)
