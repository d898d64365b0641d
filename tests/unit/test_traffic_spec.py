import pytest
from pydantic import ValidationError

from phoenix_orch.traffic.spec import RouterSpec, RouteSpec


@pytest.mark.parametrize(
    ("written", "listen", "url"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080", "http://127.0.0.1:8080"),
        (8081, "127.0.0.1:8081", "http://127.0.0.1:8081"),
        ("8081", "127.0.0.1:8081", "http://127.0.0.1:8081"),
        (":80", ":80", "http://127.0.0.1:80"),
        ("0.0.0.0:80", "0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "[::]:80", "http://[::1]:80"),
        ("[::1]:80", "[::1]:80", "http://[::1]:80"),
        ("localhost:80", "localhost:80", "http://localhost:80"),
    ],
)
def test_listen(written: object, listen: str, url: str) -> None:
    spec = RouterSpec.model_validate({"listen": written})
    assert (spec.listen, spec.url) == (listen, url)


def test_the_default_is_this_machine_only() -> None:
    assert RouterSpec() == RouterSpec(listen="127.0.0.1:8080")
    assert (RouterSpec(listen="[::1]:81").host, RouterSpec(listen=":81").host) == ("::1", "")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "x",
        ":0",
        ":65536",
        0,
        70000,
        -1,
        True,
        None,
        1.5,
        "::1:80",
        "[127.0.0.1]:80",
        "web.local:80",
        "1.2.3:80",
    ],
)
def test_wrong_listen(wrong: object) -> None:
    with pytest.raises(ValidationError, match=r"address|port|IP"):
        RouterSpec.model_validate({"listen": wrong})


def test_route_is_put_in_one_form() -> None:
    route = RouteSpec.model_validate({"service": "web", "host": "Shop.Example.com", "pathPrefix": "/api/"})
    assert (route.host, route.path_prefix) == ("shop.example.com", "/api")
    assert RouteSpec(service="web").path_prefix == "/"


@pytest.mark.parametrize(
    "wrong",
    [
        {"service": "Web"},
        {"service": "web", "host": "a b"},
        {"service": "web", "host": "*.example.com"},
        {"service": "web", "host": "example.com:80"},
        {"service": "web", "host": "x`) || Host(`y"},
        {"service": "web", "host": 5},
        {"service": "web", "pathPrefix": "api"},
        {"service": "web", "pathPrefix": "/a`b"},
        {"service": "web", "pathPrefix": "/a//b"},
        {"service": "web", "pathPrefix": "/{{x}}"},
        {"service": "web", "path": "/"},
    ],
)
def test_wrong_route(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RouteSpec.model_validate(wrong)
