"""Settings of an identity provider, and those that would open doors."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from phoenix_orch.orchestrator.oidc_spec import OidcSpec

GOOD = {"issuer": "https://provider.example", "clientId": "phoenix"}


@pytest.mark.parametrize("issuer", ["https://provider.example/a", "http://127.0.0.1:1/a", "http://[::1]:1"])
def test_an_issuer_is_asked_over_tls_or_on_this_machine(issuer):
    assert OidcSpec.model_validate({**GOOD, "issuer": issuer}).issuer == issuer


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"issuer": "http://provider.example"}, "https://"),
        ({"issuer": "http://127.0.0.1.provider.example"}, "https://"),
        ({"issuer": "localhost:8080"}, "https://"),
        ({"issuer": "https://provider.example?a=b"}, "without user"),
        ({"issuer": "http://127.0.0.1:x@provider.example"}, "without user"),
        ({"clientId": ""}, "at least 1"),
        ({"algorithms": ["HS256"]}, "none of RS256"),
        ({"algorithms": ["hs256"]}, "none of RS256"),
        ({"algorithms": ["none"]}, "none of RS256"),
        ({"algorithms": ["EdDSA"]}, "none of RS256"),
        ({"algorithms": []}, "at least 1"),
        ({"scopes": ["profile"]}, "without openid"),
        ({"grants": [{"value": "releases", "role": "root"}]}, "viewer"),
        ({"grants": [{"value": "", "role": "viewer"}]}, "at least 1"),
        ({"grants": [{"claim": "", "value": "releases", "role": "viewer"}]}, "at least 1"),
    ],
)
def test_a_setting_that_would_open_doors_is_refused(changed, why):
    with pytest.raises(ValidationError, match=why):
        OidcSpec.model_validate({**GOOD, **changed})


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_password_in_an_issuer_is_not_repeated(scheme):
    with pytest.raises(ValidationError) as caught:
        OidcSpec.model_validate({**GOOD, "issuer": f"{scheme}://user:canary@provider.example"})
    assert "canary" not in caught.value.errors()[0]["msg"]
