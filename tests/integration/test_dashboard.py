"""The page of the admin process, in a real browser."""

from __future__ import annotations

import os
import re
import signal
from urllib.parse import urlsplit

import pytest

import chromium
from driver import wait_until
from raw_http import connect, get

pytestmark = pytest.mark.skipif(
    chromium.PROGRAM is None,
    reason="there is no chromium; script/bootstrap installs it where it may",
)


@pytest.fixture
def serve(serve):
    """Start a server whose keys the client makes, with a page."""
    return lambda *options, target="probe:app", **details: serve(
        *(target, "--affinity", "header:x-session", "--admin", "127.0.0.1:0"),
        *options,
        **{"workers": 3} | details,
    )


def page_of(server):
    """Give where the page of *server* is."""
    return server.status()["admin"][0] + "/"


def make_sessions(server, number):
    """Make *number* sessions; give the slot of each, by its name."""
    slots = {}
    for i in range(number):
        with connect(server.port) as client:
            said = client.ask(get("/", f"x-session: user-{i}"))
        slots[f"user-{i}"] = said.json["slot"]
    return slots


def texts(page, selector):
    """Give the text of each element that *selector* finds."""
    return page.locator(selector).all_inner_texts()


def test_page_shows_what_serves_and_how(serve):
    """The picture, the table and the facts agree with the status."""
    server = serve()
    make_sessions(server, 6)
    with chromium.opened() as page:
        page.goto(page_of(server))
        page.wait_for_selector("#state:text('serving')")
        assert page.title() == "probe:app"
        rows = page.locator("#workers tbody tr")
        assert rows.count() == 3
        pids = [row["pid"] for row in server.status()["slots"]]
        assert [rows.nth(i).locator("td").nth(2).inner_text() for i in range(3)] == [
            str(pid) for pid in pids
        ]
        boxes = " ".join(page.locator("#picture svg text").all_text_contents())
        assert server.url in boxes
        assert f"master · pid {server.process.pid}" in boxes
        assert all(f"slot {slot} · ready" in boxes for slot in range(3))
        assert "slot 2 ready" in page.locator("#picture desc").text_content()
        facts = page.locator("#facts").inner_text()
        assert re.search(r"keys\s+6 of 100k", facts)
        assert re.search(r"lost\s+0", facts)
        assert "generation 1 serves" in texts(page, "#events li")[-1]
        assert page.locator("#charts figure").count() == 7


def test_page_moves_with_the_service(serve):
    """Requests draw lines and flows; a reload changes the pids and is an event."""
    server = serve()
    with chromium.opened() as page:
        page.goto(page_of(server))
        page.wait_for_selector("#state:text('serving')")
        before = texts(page, "#workers td:nth-child(3)")

        def requests_are_seen():
            make_sessions(server, 3)
            rates = texts(page, "#workers td:nth-child(7)")
            return any(re.match(r"[1-9.]", rate) for rate in rates)

        wait_until("the rates move", requests_are_seen)
        wait_until(
            "lines are drawn",
            lambda: (
                make_sessions(server, 3)
                and "L" in (page.locator("#charts path").first.get_attribute("d") or "")
            ),
        )
        wait_until(
            "flows are drawn",
            lambda: make_sessions(server, 3) and page.locator("#picture .flow").count(),
        )
        server.reload()
        page.wait_for_selector("#events li:has-text('generation 2 serves')")
        wait_until(
            "all pids are new",
            lambda: not set(texts(page, "#workers td:nth-child(3)")) & set(before),
        )
        page.wait_for_selector("#charts line.event.good", state="attached")


def test_hang_is_on_the_time_axis(serve, tmp_path):
    """A worker whose event loop stands still is a line in the charts, and told."""
    server = serve("--hang-timeout", "2", target="stuck:app", workers=2)
    server.expect_log("is aborted|when it ended|SIGABRT")
    with chromium.opened() as page:
        page.goto(page_of(server))
        page.wait_for_selector("#state:text('serving')")
        assert page.locator("#charts line.event.bad").count() == 0
        with connect(server.port) as client:
            client.send(get(f"/stuck?for={tmp_path / 'never'}", "x-session: one"))
            assert client.answer().status == 502
        page.wait_for_selector("#events li:has-text('event loop has been silent')")
        marks = page.locator("#charts line.event.bad title")
        wait_until(
            "it is on the time axis",
            lambda: any("is aborted" in t for t in marks.all_text_contents()),
        )
        assert "hang" in texts(page, "#events b.bad")
        assert "crash" in texts(page, "#events b.bad")


def test_page_says_which_worker_owns_a_session(serve):
    """As `maitred whereis` would; what nobody has is said as well."""
    server = serve()
    slots = make_sessions(server, 5)
    with chromium.opened() as page:
        page.goto(page_of(server))
        page.wait_for_selector("#state:text('serving')")
        for name, slot in slots.items():
            page.keyboard.press("/")
            page.keyboard.press("Control+a")
            page.keyboard.type(name)
            page.keyboard.press("Enter")
            page.wait_for_selector(f"#owner:has-text('{name}: slot {slot}, pid ')")
            page.keyboard.press("Tab")
            page.evaluate("document.activeElement.blur()")
        hostile = "<img src=x onerror=alert(1)>"
        page.fill("#key", hostile)
        page.keyboard.press("Enter")
        page.wait_for_selector("#owner.bad:has-text('no worker has a session')")
        assert hostile in page.inner_text("#owner")
        assert page.locator("#owner img").count() == 0


def test_page_is_used_from_the_keyboard(serve):
    """Pause, theme, cursor, sorting and help, and everything can be reached by Tab."""
    server = serve()
    with chromium.opened() as page:
        page.goto(page_of(server))
        page.wait_for_selector("#state:text('serving')")
        page.wait_for_function("document.querySelector('#charts path')")

        page.keyboard.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        page.keyboard.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"

        page.keyboard.press("ArrowLeft")
        assert re.match(r"at \d", page.inner_text("#moment"))
        page.keyboard.press("Escape")
        assert page.inner_text("#moment") == ""

        page.keyboard.press("p")
        assert page.get_attribute("#pause", "aria-pressed") == "true"
        page.keyboard.press("p")
        assert page.get_attribute("#pause", "aria-pressed") == "false"

        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")
        assert not page.locator("#help").is_visible()

        page.focus("#workers th button >> nth=0")
        page.keyboard.press("Enter")
        assert page.get_attribute("#workers th >> nth=0", "aria-sort") == "descending"
        slots = [text.strip() for text in texts(page, "#workers td:nth-child(1)")]
        assert slots == ["2", "1", "0"]

        focused = set()
        page.focus("#pause")
        for _ in range(25):
            page.keyboard.press("Tab")
            focused.add(page.evaluate("document.activeElement.id"))
        assert {"theme", "keys", "key"} <= focused


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_in_light_and_dark(serve, dark):
    """Contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3), by what the browser computes."""
    server = serve()
    with chromium.opened(dark=dark) as page:
        page.goto(page_of(server))
        page.wait_for_selector("#state:text('serving')")
        for selector in ("h1", "#facts dt", "#state", "td", ".legend", "label"):
            assert page.evaluate(CONTRAST, selector) >= 4.5, selector


CONTRAST = """
selector => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  let element = document.querySelector(selector);
  const ink = light(parts(getComputedStyle(element).color));
  let ground = [0, 0, 0, 0];
  for (; element; element = element.parentElement) {
    ground = parts(getComputedStyle(element).backgroundColor);
    if (ground.length === 3) break;
  }
  const [a, b] = [ink, light(ground)].sort((x, y) => y - x);
  return (a + 0.05) / (b + 0.05);
}
"""


def test_page_fits_a_small_screen(serve):
    """Nothing has to be pushed from side to side but the table, in its own frame."""
    server = serve()
    with chromium.opened(width=375, height=700) as page:
        page.goto(page_of(server))
        page.wait_for_selector("#state:text('serving')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_page_takes_nothing_from_anywhere_else(serve):
    """Every request goes to where the page came from."""
    server = serve()
    asked = []
    with chromium.opened() as page:
        page.on("request", lambda request: asked.append(urlsplit(request.url).netloc))
        page.goto(page_of(server))
        page.wait_for_selector("#state:text('serving')")
    assert set(asked) == {urlsplit(page_of(server)).netloc}


def test_page_asks_for_the_token_where_one_is_needed(serve, tmp_path):
    """A wrong one is asked for again; the right one is not seen in any address."""
    token = tmp_path / "token"
    token.write_text("sesame-open-now-please\n")
    token.chmod(0o600)
    server = serve("--admin-token-file", str(token))
    asked = []
    with chromium.opened() as page:
        # As through a proxy: then it is not this machine that asks.
        page.set_extra_http_headers({"X-Forwarded-For": "203.0.113.9"})
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_of(server))
        for said in ("wrong", "sesame-open-now-please"):
            page.wait_for_selector("#ask-token[open]")
            page.fill("#token", said)
            page.keyboard.press("Enter")
        page.wait_for_selector("#state:text('serving')")
    assert not any("sesame" in url for url in asked)


def test_page_says_when_nobody_answers_and_comes_back(serve):
    """It keeps asking."""
    server = serve()
    with chromium.opened() as page:
        page.goto(page_of(server))
        page.wait_for_selector("#state:text('serving')")
        page.route("**/api/*", lambda route: route.abort())
        page.wait_for_selector("#state.bad:has-text('no answer')")
        page.unroute("**/api/*")
        page.wait_for_selector("#state.good:text('serving')")


def test_page_goes_on_with_the_next_master(serve):
    """The listener is the keeper's, and so the page finds the new admin process."""
    server = serve(verb="keep")
    with chromium.opened() as page:
        page.goto(page_of(server))
        page.wait_for_selector("#state:text('serving')")
        master = server.status()["pid"]
        assert f"pid {master}" in page.text_content("#picture svg")
        server.expect_log("started again")
        os.kill(master, signal.SIGKILL)
        wait_until(
            "another master is shown",
            lambda: f"pid {master}" not in page.text_content("#picture svg"),
        )
        page.wait_for_selector("#state.good:text('serving')")
