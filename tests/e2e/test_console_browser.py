"""The console in Chromium, over a Phoenix that releases: each page, each button, by mouse and by keyboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from tests.faults.story import NAME, Story

from phoenix_orch.rollout.status import CommandKind, State

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "pictures"
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
ROLLOUT = f"/console/rollouts/{NAME}"
PAGES = (
    "/console",
    ROLLOUT,
    f"{ROLLOUT}/history",
    "/console/services",
    f"/console/services/{NAME}",
    "/console/tasks",
    "/console/recovery",
    "/console/audit",
    "/console/settings",
)


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page on which nothing may go wrong unseen."""
    made = context.new_page()
    faults: list[str] = []
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.on("console", lambda told: faults.append(told.text) if told.type == "error" else None)
    yield made
    assert faults == []


def release(phoenix: Story, page: Page, version: str) -> None:
    """Start one by its button, and see it walk."""
    page.goto(ROLLOUT)
    ask(page, "start", "Start release", Version=version, Reason="a test")
    phoenix.until_state(State.PROGRESSING)
    expect(page.locator(".state").first).to_have_text("Progressing")


def ask(page: Page, kind: str, label: str, **filled: str) -> None:
    """Press the button, answer the question."""
    dialog = page.locator(f"#ask-{kind}")
    page.locator(f"#live button[commandfor=ask-{kind}]").click()
    expect(dialog).to_be_visible()
    for field, text in filled.items():
        dialog.get_by_label(field).fill(text)
    dialog.get_by_role("button", name=label, exact=True).click()
    page.wait_for_url(f"**{ROLLOUT}?done={kind}")


def shown(page: Page, state: str) -> None:
    """The stream brings it; nobody loads the page again."""
    expect(page.locator("#live .state").first).to_have_text(state)


def test_a_release_is_steered_by_its_buttons(phoenix: Story, page: Page) -> None:
    release(phoenix, page, "2.0")
    ask(page, "pause", "Pause", Reason="lunch")
    shown(page, "Paused")
    ask(page, "resume", "Resume")
    shown(page, "Progressing")
    ask(page, "promote", "Promote step")
    expect(page.locator("#live .headline")).to_contain_text("expanded 2/6")
    ask(page, "abort", "Abort", Reason="not today")
    shown(page, "RolledBack")
    expect(page.locator("#live")).to_contain_text("not today")
    ask(page, "retry", "Retry")
    shown(page, "Progressing")
    ask(page, "promote-full", "Promote fully")
    shown(page, "Baking")
    ask(page, "end-bake", "End bake")
    shown(page, "Promoted")
    ask(page, "undo", "Undo", Reason="back")
    phoenix.until_view(
        "the first version is back",
        lambda view: (
            view.rollout.status.state is State.PROMOTED
            and view.versions[view.rollout.status.stable or ""] == "1"
        ),
    )
    shown(page, "Promoted")


def test_the_same_by_keyboard(phoenix: Story, page: Page) -> None:
    page.goto(ROLLOUT)
    expect(page.locator("#live button[commandfor=ask-start]")).to_be_visible()
    page.keyboard.press("s")
    page.keyboard.type("3.0")
    page.keyboard.press("Enter")
    page.wait_for_url("**done=start")
    phoenix.until_state(State.PROGRESSING)
    shown(page, "Progressing")
    page.keyboard.press("p")
    page.keyboard.press("Escape")
    assert phoenix.client.rollout(NAME).rollout.status.state is State.PROGRESSING
    button = page.locator("#live button[commandfor=ask-pause]")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#ask-pause")).to_be_visible()
    page.locator("#ask-pause").get_by_role("button", name="Pause").focus()
    page.keyboard.press("Enter")
    shown(page, "Paused")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("Resume")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("o")
    page.wait_for_url("**/console")
    expect(page.locator("#live")).to_contain_text("paused by")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.goto(ROLLOUT)
    expect(page.locator("#live button[commandfor=ask-abort]")).to_be_visible()
    page.keyboard.press("a")
    expect(page.locator("#ask-abort")).to_be_visible()
    page.locator("#ask-abort").get_by_label("Reason").fill("by keyboard")
    page.keyboard.press("Enter")
    shown(page, "RolledBack")


def test_history_compares_and_services_follow_their_log(phoenix: Story, page: Page) -> None:
    page.goto(f"{ROLLOUT}/history")
    page.get_by_role("button", name="Compare A with B").click()
    expect(page.locator("table.both")).to_contain_text("Outcome")
    page.goto("/console/services")
    page.get_by_role("link", name=NAME, exact=True).first.click()
    expect(page.locator("#log-lines")).to_be_visible()
    expect(page.locator("#log-lines .more")).to_be_attached()
    ask_restart = page.locator("button[commandfor=ask-restart][command=show-modal]")
    ask_restart.click()
    page.locator("#ask-restart").get_by_role("button", name="Restart").click()
    page.wait_for_url("**done=restart")
    expect(page.get_by_role("status").filter(has_text="replaced")).to_be_visible()


def test_moments_are_in_the_zone_of_the_viewer(chromium: Browser, address: str, phoenix: Story) -> None:
    context = chromium.new_context(base_url=address, timezone_id="Asia/Kolkata", locale="en-GB")
    page = context.new_page()
    page.goto(ROLLOUT)
    moment = page.locator("#live time").first
    expect(moment).not_to_contain_text("UTC")
    utc = re.search(r"(\d\d):(\d\d):\d\d UTC", moment.get_attribute("title") or "")
    local = re.search(r"(\d\d):(\d\d):\d\d", moment.inner_text())
    assert utc
    assert local
    away = (int(local[1]) * 60 + int(local[2]) - int(utc[1]) * 60 - int(utc[2])) % (24 * 60)
    assert away == 5 * 60 + 30
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing_serious(
    chromium: Browser, address: str, phoenix: Story, path: str, scheme: str
) -> None:
    """Contrast among it, computed from what is painted. Scripts of a test pass by the policy of the page."""
    context = chromium.new_context(
        base_url=address, color_scheme="dark" if scheme == "dark" else "light", bypass_csp=True
    )
    page = context.new_page()
    page.goto(path)
    assert serious(page) == []
    context.close()


def serious(page: Page) -> list[tuple[str, list[str]]]:
    """What axe calls serious or worse, with the elements."""
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        (one["id"], [node["html"][:120] for node in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_status_page_outlives_whoever_wrote_it(
    chromium: Browser, phoenix: Story, tmp_path: Path, scheme: str
) -> None:
    done = phoenix.cli("status-page", "write", "--directory", str(tmp_path / "public"))
    assert done.returncode == 0, done.stderr
    context = chromium.new_context(color_scheme="dark" if scheme == "dark" else "light", bypass_csp=True)
    page = context.new_page()
    page.goto(f"file://{tmp_path}/public/index.html")
    expect(page.locator("h1")).to_have_text("Status")
    expect(page.get_by_role("img").first).to_be_visible()
    assert serious(page) == []
    text = (tmp_path / "public" / "index.html").read_text(encoding="utf-8")
    assert "127.0.0.1" not in text
    assert str(phoenix.data) not in text
    context.close()


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_shows_each_page_without_a_side_scroll(
    chromium: Browser, address: str, phoenix: Story, path: str
) -> None:
    context = chromium.new_context(base_url=address, viewport={"width": 320, "height": 640})
    page = context.new_page()
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    context.close()


def test_pictures_for_the_documents(chromium: Browser, address: str, phoenix: Story) -> None:
    """What docs/how-to/console.md shows, taken from a release that is under way."""
    made = chromium.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    page = made.new_page()
    release(phoenix, page, "4.0")
    expect(page.locator("#live")).to_contain_text("No fault found so far")
    made.close()
    for name, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280), ("phone", "light", 320)):
        context = chromium.new_context(
            base_url=address,
            viewport={"width": width, "height": 720},
            color_scheme="dark" if scheme == "dark" else "light",
            timezone_id="Europe/Berlin",
        )
        page = context.new_page()
        for path, what in (("/console", "overview"), (ROLLOUT, "rollout")):
            page.goto(path)
            if what == "rollout":
                expect(page.locator(".uplot").first).to_be_visible()
            picture = PICTURES / f"console-{what}-{name}.png"
            page.screenshot(path=str(picture), full_page=name != "phone")
            assert picture.stat().st_size > 5_000
        context.close()
    phoenix.client.command(NAME, CommandKind.ABORT)
