"""docs/reference/conformance.md names every case and the routers that its test runs with."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\d+) \| .+ \| (both|Ingress|HTTPRoute) \|$", re.MULTILINE)
TEST = re.compile(r"((?:^@.+\n)+)^async def test_(\d\d)_", re.MULTILINE)
ROUTERS = {
    "both": ("both_routers", "both_hindered", '"kind", ROUTERS'),
    "Ingress": ("only_ingress",),
    "HTTPRoute": ("only_route",),
}


def test_every_case_has_one_test_for_the_routers_that_the_page_says() -> None:
    rows = dict(ROW.findall((ROOT / "docs/reference/conformance.md").read_text("utf-8")))
    assert list(rows) == [str(number) for number in range(1, 31)]
    files = sorted((ROOT / "tests/cluster").glob("test_conformance*.py"))
    tests = [
        (str(int(number)), marks) for one in files for marks, number in TEST.findall(one.read_text("utf-8"))
    ]
    assert sorted(int(number) for number, _ in tests) == list(range(1, 31))
    for number, marks in tests:
        assert any(word in marks for word in ROUTERS[rows[number]]), number
