"""The operator's page: what it is served with, and that it needs nothing from elsewhere."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from support.api_in_process import House, open_house

from dispatcher.http.message import Request, Response

pytestmark = pytest.mark.usefixtures("autojump_clock")

FOLDER = files("dispatcher.http").joinpath("console")
TEXTS = {file.name: file.read_text() for file in FOLDER.iterdir() if file.is_file()}


async def get(house: House, path: str, **headers: str) -> Response:
    reply = await house.app.send("GET", path, **headers)
    assert isinstance(reply, Response)
    return reply


async def test_the_page_and_its_files_are_there_for_anyone_with_a_strict_policy() -> None:
    async with open_house() as house:
        for path in ("/console", *(f"/console/{name}" for name in TEXTS)):
            reply = await house.handle(Request(method="GET", path=path))
            assert isinstance(reply, Response)
            headers = dict(reply.headers)
            policy = headers["Content-Security-Policy"].split("; ")
            assert {
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "connect-src 'self'",
            } <= set(policy)
            assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} <= set(policy)
            assert not any("unsafe" in rule or "*" in rule or ":" in rule for rule in policy)
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"


async def test_media_types_are_those_that_a_browser_wants() -> None:
    async with open_house() as house:
        types = {path: (await get(house, path)).content_type for path in (
            "/console", "/console/main.js", "/console/console.css", "/console/icon.svg",
        )}  # fmt: skip
        assert [one and one.partition(";")[0] for one in types.values()] == [
            "text/html", "text/javascript", "text/css", "image/svg+xml",
        ]  # fmt: skip


async def test_a_file_that_is_known_is_not_sent_again() -> None:
    async with open_house() as house:
        etag = dict((await get(house, "/console/main.js")).headers)["ETag"]
        again = await get(house, "/console/main.js", if_none_match=etag)
        assert (again.status, again.body) == (304, b"")
        assert "Content-Security-Policy" in dict(again.headers)


@pytest.mark.parametrize(
    "name", ["nothing.js", "..%2Fapi.py", "%2e%2e", "console_api.py", "main.js%00", "MAIN.JS"]
)
async def test_nothing_else_is_served(name: str) -> None:
    async with open_house() as house:
        assert (await get(house, f"/console/{name}")).status == 404


def test_the_page_has_no_inline_script_style_or_listener_and_loads_only_files_that_exist() -> None:
    page = TEXTS["index.html"]
    assert re.findall(r"<script\b(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style\b|\bstyle=|\bon[a-z]+=|javascript:", page) == []
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert loaded
    assert {name.removeprefix("console/") for name in loaded} <= set(TEXTS)


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_no_file_speaks_of_another_place_or_makes_markup_out_of_text(name: str) -> None:
    text = TEXTS[name].replace("http://www.w3.org/2000/svg", "")
    assert re.findall(r"https?:|//[a-z]|@import|url\(", text) == []
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
        == []
    )
    for imported in re.findall(r'from "\./([^"]+)"', text):
        assert imported in TEXTS


def _colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_text_can_be_read(scheme: str) -> None:
    """At least 4.5 to 1, as WCAG 2.2 wants it at level AA."""
    light, dark, *_ = [
        _colours(block) for block in re.findall(r":root \{(.*?)\}", TEXTS["console.css"], re.DOTALL)
    ]
    colours = light if scheme == "light" else dark
    pairs = [
        (text, ground)
        for text in ("ink", "muted", "accent", "ok", "warn", "bad", "paused")
        for ground in ("surface", "ground", "raised")
    ]
    for text, ground in [*pairs, ("accent-ink", "accent"), ("ink", "accent-soft"), ("bad", "bad-soft")]:
        darker, lighter = sorted(_luminance(colours[name]) for name in (text, ground))
        contrast = (lighter + 0.05) / (darker + 0.05)
        assert contrast >= 4.5, f"{text} on {ground}: {contrast:.2f}"
