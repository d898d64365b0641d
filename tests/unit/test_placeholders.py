"""What is put in place of a word in braces, and what is left alone."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from phoenix_orch.kernel.errors import Invalid
from phoenix_orch.kernel.placeholders import check, fill, words
from phoenix_orch.rollout.spec import CriticalPath, HttpCheck
from phoenix_orch.workload.spec import ServiceSpec, Template, has_port, refuse_unfit

VALUES = {"port": "8080", "version": "2"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("--port={port}", "--port=8080"),
        ("{version}-{port}", "2-8080"),
        ('{"listen": {"port":{port}}}', '{"listen": {"port":8080}}'),
        ("{}", "{}"),
        ("x{2,3}", "x{2,3}"),
        ("{ port }", "{ port }"),
        ("{{port}}", "{port}"),
        ("awk {{print}}", "awk {print}"),
        ("${port}", "${port}"),
        ("{{.Name}}", "{{.Name}}"),
    ],
)
def test_braces_around_a_known_word_are_filled_and_all_others_stay(text: str, filled: str) -> None:
    assert fill(text, VALUES) == filled
    assert check(text, tuple(VALUES)) == text


def test_a_value_is_not_searched_for_placeholders() -> None:
    assert fill("{version}", {"version": "{port}", "port": "1"}) == "{port}"


def test_a_word_nobody_knows_is_named_without_the_text_around_it() -> None:
    assert words("a {prot} {port}") == ("prot", "port")
    with pytest.raises(PydanticCustomError) as raised:
        check("secret {prot}", ("port",))
    assert "{prot}" in raised.value.message()
    assert "secret" not in raised.value.message()


def test_a_shell_variable_is_no_port() -> None:
    assert has_port(["app", "--port={port}"])
    assert not has_port(["sh", "-c", "app ${port}"])


def test_the_port_may_be_in_the_environment_alone() -> None:
    assert ServiceSpec.model_validate({"command": "node server.js", "env": {"PORT": "{port}"}}).env
    with pytest.raises(ValidationError, match="command and env have no") as raised:
        ServiceSpec.model_validate({"command": "node server.js", "env": {"PORT": "8080", "KEY": "s3cr3t"}})
    (error,) = raised.value.errors()
    assert error["loc"] == ("command",)


def test_a_kept_template_is_taken_as_it_is_and_a_written_one_is_not() -> None:
    fields = {"command": "app {port}", "env": {"FORMAT": "{message}"}}
    assert Template.model_validate(fields).env == {"FORMAT": "{message}"}
    with pytest.raises(ValueError, match="a placeholder that means nothing"):
        ServiceSpec.model_validate(fields)


def test_what_is_given_with_a_start_is_refused_by_its_place_alone() -> None:
    refuse_unfit({"URL": "http://x:{port}"}, ("app", "{port}"))
    with pytest.raises(Invalid, match=r"env URL: .*\{prot\}") as raised:
        refuse_unfit({"URL": "hush {prot}"}, ())
    assert "hush" not in str(raised.value)
    assert "{port}, {version}" in raised.value.remedy
    with pytest.raises(Invalid, match=r"command\[1\]: .*\{prot\}"):
        refuse_unfit({}, ("app", "{prot}"))


@pytest.mark.parametrize("url", ["/login", "localhost:80/", "{port}/x", "{cannary}/x"])
def test_an_address_that_no_request_could_be_sent_to_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"whole address|nothing is known"):
        HttpCheck(url=url)


def test_a_critical_path_has_no_canary_to_ask() -> None:
    with pytest.raises(ValueError, match=r"\{canary\}"):
        CriticalPath(name="a", http=HttpCheck(url="{canary}/x"))
