"""The whole API as its own description says: whatever is sent, no answer is one that is not described.

Requests are made from the description, valid and broken ones. The store behind is a fixed picture, so that
a status of 5xx is a fault of the API.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.integration.fake_phoenix import FakeOperations
from tests.integration.known import admin
from tests.integration.locked import Locked
from tests.integration.no_tasks import NoTasks

from phoenix_orch.api.openapi import ACTING, operations
from phoenix_orch.api.problems import CONTENT_TYPE
from phoenix_orch.orchestrator.api_spec import ApiSpec

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
STREAMS = ("stream_overview", "stream_rollout", "follow_task")
"""They do not end by themselves; tests of their own follow them."""


class Well(FakeOperations):
    """All of its components are there, and no task."""

    def __init__(self):
        super().__init__()
        self.tasks = NoTasks()

    async def info(self):
        return {**await super().info(), "components": [{"name": "store", "state": "ok"}]}


def served():
    """All of the API, tokens and approvals too, for whom everything is open."""
    directory = Path(tempfile.mkdtemp(prefix="phoenix-schema-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    app = Locked(directory, ApiSpec(hosts=("testserver",)), Well()).app
    app.state.authenticators, app.state.rates = (admin,), None
    return app


APP = served()
schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", APP).exclude(operation_id=list(STREAMS))
bounded = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


@schema.parametrize()
@settings(bounded, max_examples=8)
def test_every_answer_is_described(case):
    case.call_and_validate(checks=CHECKS)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@schema.parametrize()
@settings(bounded, max_examples=300, derandomize=False)
def test_every_answer_is_described_at_length(case):
    case.call_and_validate(checks=CHECKS)


def described():
    return list(operations(APP.openapi()))


def test_operations_have_names_words_and_tags_of_their_own():
    names = [operation["operationId"] for _, _, operation in described()]
    assert len(set(names)) == len(names)
    for path, _, operation in described():
        assert operation["operationId"].isidentifier()
        assert operation["description"].strip(), path
        assert len(operation["tags"]) == 1, path


def test_every_operation_says_how_it_may_fail():
    for path, method, operation in described():
        if path.startswith("/healthz/"):
            continue
        for status in ("401", "403", "422", "500", "503", *(("409", "412") if method in ACTING else ())):
            content = operation["responses"][status]["content"]
            assert content[CONTENT_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}, (path, status)


def test_all_references_lead_somewhere_so_that_a_client_can_be_made_from_it():
    description = APP.openapi()
    known = {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}
    found: set[str] = set()

    def walk(value):
        if isinstance(value, dict):
            found.update({value["$ref"]} if isinstance(value.get("$ref"), str) else ())
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)

    walk(description)
    assert found
    assert found <= known
