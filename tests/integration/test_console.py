"""The operator's page in a real browser, with pictures of it.

``DISPATCHER_TEST_SCREENSHOTS`` names a folder for the pictures; without it they go with
the other temporary files.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from support.browser import CHROMIUM, Page, open_page
from support.console_house import Fleet, open_fleet
from support.receiver import Answer, Request, answer, open_receiver

from dispatcher.model import Notification, Role

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"chromium is not installed as {CHROMIUM}"),
]

TABLE = "document.querySelectorAll('.channels tbody tr').length"
WIDE = (1440, 900)
PHONE = (390, 844)
LIVE = "document.getElementById('pulse').dataset.state == 'live'"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("DISPATCHER_TEST_SCREENSHOTS") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@asynccontextmanager
async def open_console(fleet: Fleet, folder: Path, *, size: tuple[int, int] = WIDE) -> AsyncIterator[Page]:
    """A browser on the sign-in page, which tells what it asks for and what goes wrong."""
    async with open_page(folder / "profile", fleet.console) as page:
        for domain in ("Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        await page.resize(*size, is_phone=size == PHONE)
        yield page


async def sign_in(page: Page, key: str) -> None:
    await page.wait("document.activeElement?.id == 'key'")
    await page.type(key)
    await page.press("Enter")


def troubles_of(page: Page) -> list[dict[str, Any]]:
    """What the browser complained of: exceptions, and what the page's policy forbids."""
    return [
        told
        for told in page.told
        if told["method"] == "Runtime.exceptionThrown"
        or (
            told["method"] == "Log.entryAdded"
            and told["params"]["entry"]["source"] in ("security", "javascript")
        )
    ]


def urls_of(page: Page) -> list[str]:
    """What the browser asked for."""
    return [
        told["params"]["request"]["url"]
        for told in page.told
        if told["method"] == "Network.requestWillBeSent"
    ]


async def test_five_hundred_channels_at_a_glance(tmp_path: Path, pictures: Path) -> None:
    async with open_fleet(500) as fleet, open_console(fleet, tmp_path) as page:
        await page.screenshot(pictures / "sign-in.png")
        await sign_in(page, fleet.key)
        await page.wait(f"{TABLE} == 50 && {LIVE}")
        assert await page.evaluate("document.querySelector('.tile-channels dd').textContent") == "500"
        await page.wait("document.querySelectorAll('.channels .spark .in[d^=M]').length > 20")
        await trio.sleep(float(os.environ.get("DISPATCHER_TEST_SCREENSHOT_WAIT_S", "0")))
        await page.screenshot(pictures / "overview.png")
        await page.prefer("dark")
        await page.screenshot(pictures / "overview-dark.png")
        await page.prefer("light")
        await page.resize(*PHONE, is_phone=True)
        await page.screenshot(pictures / "overview-phone.png")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.resize(*WIDE)

        await page.evaluate("document.querySelector('.chip[data-status=failing]').click()")
        await page.wait(
            f"{TABLE} > 5 && [...document.querySelectorAll('.channels .status')]"
            ".every((one) => one.textContent == 'failing')"
        )
        await page.evaluate("document.querySelector('.chip[data-status=\"\"]').click()")
        await page.press("/")
        await page.type("greenhouse-1")
        await page.wait(
            "[...document.querySelectorAll('.channels a')].length > 0 && "
            "[...document.querySelectorAll('.channels a')].every((one) => /greenhouse-1/.test(one.text))"
        )
        await page.evaluate(
            "const box = document.getElementById('search'); box.value = 'nothing-like-it';"
            "box.dispatchEvent(new Event('input'))"
        )
        await page.wait("/Nothing matches/.test(document.querySelector('.blank')?.textContent)")
        assert troubles_of(page) == []
        assert [url for url in urls_of(page) if not url.startswith(f"http://127.0.0.1:{fleet.port}/")] == []
        assert [url for url in urls_of(page) if "ak_" in url or fleet.key in url] == []


async def nameless(page: Page) -> list[str]:
    """What can be used and has no name for who cannot see it."""
    nodes = (await page.call("Accessibility.getFullAXTree"))["nodes"]
    usable = {
        "button",
        "link",
        "searchbox",
        "textbox",
        "combobox",
        "checkbox",
        "table",
        "region",
        "navigation",
    }
    return [
        node["role"]["value"]
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in usable and not node.get("name", {}).get("value")
    ]


async def test_whatever_can_be_used_has_a_name_and_the_keyboard_reaches_it(tmp_path: Path) -> None:
    async with open_fleet(60) as fleet, open_console(fleet, tmp_path) as page:
        assert await nameless(page) == []
        await sign_in(page, fleet.key)
        await page.wait(f"{TABLE} == 50 && {LIVE}")
        assert await nameless(page) == []
        reached = set()
        for _ in range(25):
            await page.press("Tab")
            reached.add(
                await page.evaluate("document.activeElement.className || document.activeElement.tagName")
            )
        assert {"chip", "SELECT", "A", "INPUT"} <= reached
        await page.evaluate("document.querySelector('.channels a').click()")
        await page.wait("document.querySelector('.attempts-panel') !== null")
        assert await nameless(page) == []


async def test_pages_of_channels_are_turned(tmp_path: Path) -> None:
    async with open_fleet(120) as fleet, open_console(fleet, tmp_path) as page:
        await sign_in(page, fleet.key)
        await page.wait(f"{TABLE} == 50")
        await page.evaluate(
            "const order = document.querySelector('select[aria-label=Order]'); order.value = 'id';"
            "order.dispatchEvent(new Event('change'))"
        )
        first = "document.querySelector('.channels .type').textContent"
        await page.wait(f"/· 1$/.test({first})")
        for shown, number in (("Next", 51), ("Next", 101), ("Previous", 51)):
            await click(page, shown)
            await page.wait(f"/· {number}$/.test({first})")


async def test_a_failing_channel_is_looked_at_paused_resumed_tried_again_and_deleted(
    tmp_path: Path, pictures: Path
) -> None:
    async with open_fleet(40) as fleet, open_console(fleet, tmp_path) as page:
        await sign_in(page, fleet.key)
        channel = fleet.channel(fleet.applications[7])
        await page.wait("document.querySelector('tr[data-status=failing]') !== null")
        await page.evaluate("document.querySelector('tr[data-status=failing] a').focus()")
        number = await page.evaluate("document.activeElement.hash.split('/')[2]")
        channel = fleet.hub.parts.directory.channel(int(number))
        await page.press("Enter")
        await page.wait("document.querySelectorAll('.attempts tbody tr').length > 0")
        assert await page.evaluate("document.activeElement.tagName") == "H1"
        with trio.fail_after(20):
            while fleet.hub.parts.queue.stats(channel.row.id).records < 10:  # noqa: ASYNC110
                await trio.sleep(0.05)
        await page.evaluate("[...document.querySelectorAll('.peek button')][0].click()")
        await page.wait("document.querySelectorAll('.records li').length == 10")
        shown = await page.evaluate("document.body.innerText")
        assert "never-to-be-seen" not in shown
        assert "MjEuNQ" not in shown
        assert "4 B payload not shown" in shown
        await page.wait("document.querySelector('.flow .spark .in').getAttribute('d')?.length > 40")
        await page.screenshot(pictures / "channel.png")
        await page.prefer("dark")
        await page.screenshot(pictures / "channel-dark.png")
        await page.prefer("light")
        await page.resize(*PHONE, is_phone=True)
        await page.screenshot(pictures / "channel-phone.png")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await page.resize(*WIDE)

        await click(page, "Pause")
        await page.wait("document.querySelector('.head .status').textContent == 'paused'")
        assert channel.row.is_paused
        await click(page, "Resume")
        await page.wait("document.querySelector('.head .status').textContent == 'failing'")
        attempts = len(fleet.hub.parts.observer.attempts.of(channel.row.id))
        await page.wait("!document.querySelectorAll('.head button')[1].disabled")
        await click(page, "Retry now")
        with trio.fail_after(10):
            while len(fleet.hub.parts.observer.attempts.of(channel.row.id)) == attempts:  # noqa: ASYNC110
                await trio.sleep(0.05)

        await click(page, "Delete…")
        await page.wait("document.querySelector('dialog[open]') !== null")
        assert await page.evaluate("document.activeElement.textContent") == "Cancel"
        await page.screenshot(pictures / "delete.png")
        await page.press("Escape")
        await page.wait("document.querySelector('dialog') === null")
        assert not channel.is_gone
        await click(page, "Delete…")
        await page.wait("document.querySelector('dialog[open]') !== null")
        await click(page, "Delete channel")
        await page.wait("document.querySelector('.overview') !== null")
        assert channel.is_gone
        assert troubles_of(page) == []


async def test_what_a_receiver_refuses_is_shown_and_given_back(tmp_path: Path, pictures: Path) -> None:
    refusing = True

    def picky(request: Request) -> Answer:
        return answer(422 if refusing and b"notifications" in request.body else 200)

    async with (
        open_receiver(otherwise=picky) as receiver,
        open_fleet(2) as fleet,
        open_console(fleet, tmp_path) as page,
    ):
        application, hub = fleet.applications[0], fleet.hub
        await hub.register_callback(application, receiver.url)
        channel = fleet.channel(application)
        hub.publish(application, Notification("dev-1", "/3303/0/5700", b"21.5"))
        with trio.fail_after(20):
            while hub.parts.parking.count(channel.row.id).events == 0:
                channel.end_pause()
                await trio.sleep(0.02)
        await sign_in(page, fleet.key)
        await page.wait(f"{TABLE} == 2 && {LIVE}")
        await page.evaluate(f"location.hash = '#/channels/{channel.row.id}'")
        await page.wait("document.querySelector('.parked')?.hidden === false")
        await page.evaluate("document.querySelector('.parked button').click()")
        await page.wait("document.querySelectorAll('.parked .records li').length > 0")
        shown = await page.evaluate("document.querySelector('.parked').innerText")
        assert "answered 422" in shown
        assert "MjEuNQ" not in shown
        await page.screenshot(pictures / "parked.png")
        assert await nameless(page) == []
        refusing = False
        channel.end_pause()
        await click(page, "Give all back")
        await page.wait("document.querySelector('.parked').hidden")
        assert hub.parts.parking.count(channel.row.id).events == 0
        assert troubles_of(page) == []


async def click(page: Page, words: str) -> None:
    buttons = "[...document.querySelectorAll('button')]"
    await page.evaluate(f"{buttons}.filter((one) => one.textContent == {words!r}).at(-1).click()")


async def test_an_empty_fleet_says_what_makes_a_channel(tmp_path: Path, pictures: Path) -> None:
    async with open_fleet(0) as fleet, open_console(fleet, tmp_path) as page:
        await sign_in(page, fleet.key)
        await page.wait(f"/No channels yet/.test(document.querySelector('.blank')?.textContent) && {LIVE}")
        await page.screenshot(pictures / "empty.png")


async def test_a_key_of_another_role_and_an_unknown_one_are_told_apart(
    tmp_path: Path, pictures: Path
) -> None:
    async with open_fleet(1) as fleet, open_console(fleet, tmp_path) as page:
        account = await fleet.hub.ensure_account("acme")
        gateway = await fleet.hub.create_key(Role.GATEWAY, account=account)
        for key, words in (
            ("ak_unknown", "unknown, expired or revoked"),
            (gateway.key, "not an admin key"),
            ("no key", "starts with ak_"),
        ):
            await page.evaluate(
                "document.getElementById('key').value = ''; document.getElementById('key').focus()"
            )
            await sign_in(page, key)
            await page.wait(f"/{words}/.test(document.getElementById('key-trouble').textContent)")
        await page.screenshot(pictures / "sign-in-refused.png")
        assert await page.evaluate("sessionStorage.length") == 0


async def test_a_key_that_is_revoked_ends_the_page_and_is_forgotten(tmp_path: Path) -> None:
    async with open_fleet(3) as fleet, open_console(fleet, tmp_path) as page:
        await sign_in(page, fleet.key)
        await page.wait(f"{TABLE} == 3 && {LIVE}")
        await fleet.hub.revoke_key(fleet.key_id)
        await page.wait("/not valid any more/.test(document.getElementById('key-trouble')?.textContent)")
        assert await page.evaluate("sessionStorage.length") == 0
        assert "greenhouse" not in await page.evaluate("document.body.innerText")


async def test_a_page_without_its_daemon_says_so_and_comes_back(tmp_path: Path, pictures: Path) -> None:
    async with open_fleet(30) as fleet, open_console(fleet, tmp_path) as page:
        await sign_in(page, fleet.key)
        await page.wait(f"{TABLE} == 30 && {LIVE}")
        offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        await page.call("Network.emulateNetworkConditions", offline=True, **offline)
        (key,) = (key for key in fleet.hub.parts.directory.keys.keys() if key.id == fleet.key_id)  # noqa: SIM118
        fleet.hub.parts.fleet.revoke([key])  # its stream ends; the key itself is good
        await page.wait("document.getElementById('pulse').dataset.state == 'lost'")
        await page.wait("/cannot be read/.test(document.querySelector('.banner')?.textContent)")
        await page.screenshot(pictures / "error.png")
        await page.call("Network.emulateNetworkConditions", offline=False, **offline)
        await page.wait(LIVE)
        await page.wait("document.querySelector('.banner').hidden")


async def test_numbers_are_written_as_people_read_them(tmp_path: Path) -> None:
    async with open_fleet(0) as fleet, open_console(fleet, tmp_path) as page:
        written = await page.evaluate("""
            import("./console/format.js").then(({ bytes, seconds, rate, short, percent }) => [
                [0, 999, 1000, 9960, 999600, 50e6].map(bytes),
                [0, 0.0304, 1.55, 59.6, 61, 3600, 90000].map(seconds),
                [undefined, 0, 0.25, 9.96, 1234].map(rate),
                short(1234567), percent(1, 0), percent(3, 2),
            ])""")
        assert written == [
            ["0 B", "999 B", "1.0 kB", "10 kB", "1.0 MB", "50 MB"],
            ["0s", "30ms", "1.6s", "1m", "1m 1s", "1h", "1d 1h"],
            ["–", "0", "0.3", "10", "1.2k"],  # noqa: RUF001
            "1.2M",
            0,
            100,
        ]


async def test_only_so_much_history_is_kept(tmp_path: Path) -> None:
    async with open_fleet(0) as fleet, open_console(fleet, tmp_path) as page:
        kept = await page.evaluate("""
            import("./console/history.js").then(({ History }) => {
                const history = new History();
                for (let second = 0; second < 400; second += 1) history.add(1, second, 2 * second);
                const newest = history.last(1, 2);
                const seconds = history.last(1, 1000).ins.length;
                for (let id = 2; id < 1500; id += 1) history.add(id, 0, 0);
                return [newest, seconds, history.last(1, 9).ins.length, history.last(1499, 9).ins.length];
            })""")
        assert kept == [{"ins": [398, 399], "outs": [796, 798]}, 300, 0, 1]
