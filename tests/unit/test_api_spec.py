"""What phoenix.yaml says about the API: addresses, names, and files that stay where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix_orch.kernel.config import ConfigError
from phoenix_orch.orchestrator.config import load

SERVICE = (
    "services: {web: {version: '1', command: 'python3 -m http.server {port}'}}\n"
    "routes: {web: {service: web, pathPrefix: /}}\n"
)


def written(folder: Path, text: str) -> Path:
    path = folder / "phoenix.yaml"
    path.write_text(f"apiVersion: phoenix-orch.io/v1alpha1\n{SERVICE}{text}\n", encoding="utf-8")
    return path


def test_files_are_those_beside_phoenix_yaml_wherever_phoenix_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(
        tmp_path,
        "api: {tls: {certificate: tls/a.crt, key: /etc/a.key}, oidc: {issuer: 'https://id.example',"
        " clientId: phoenix, clientSecretFile: secret, ca: ca.crt}}\nstatusPage: {directory: page}",
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = load(path)
    assert found.api.tls is not None
    assert found.api.oidc is not None
    assert found.status_page is not None
    assert (found.api.tls.certificate, found.api.tls.key) == (f"{tmp_path}/tls/a.crt", "/etc/a.key")
    assert found.api.tls.client_ca is None
    assert found.api.oidc.client_secret_file == f"{tmp_path}/secret"
    assert found.api.oidc.ca == f"{tmp_path}/ca.crt"
    assert found.status_page.directory == f"{tmp_path}/page"


@pytest.mark.parametrize("host", ["a b", "https://phoenix.example", "phoenix.example/console", ""])
def test_what_is_no_name_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, f"api: {{hosts: ['{host}']}}"))
    assert "api.hosts[0]" in str(caught.value)


def test_a_range_of_durations_is_told_as_one_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, "audit: {retention: 1h}"))
    assert "allowed: 1d to 36500d" in str(caught.value)
