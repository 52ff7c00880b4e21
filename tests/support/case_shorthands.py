"""What stands for several steps in a case: ``Given`` lines, ``events``, ``open``, and names with a number."""

from __future__ import annotations

import msgspec
from support.case_step import Step

_MINE = "Authorization: Bearer {KEY}"
_JSON = "Content-Type: application/json"
_UPGRADE = """\
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: {NONCE}"""

GIVEN: dict[str, tuple[tuple[str, str], ...]] = {
    "a WebSocket channel": (
        ("request", f"PUT /v2/notification/websocket\n{_MINE}"),
        ("answer", "201"),
    ),
    "a long-poll channel": (
        ("request", f"PUT /v2/notification/pull\n{_MINE}"),
        ("answer", "204"),
    ),
    "a callback": (
        ("request", f'PUT /v2/notification/callback\n{_MINE}\n{_JSON}\n\n{{"url": "{{CALLBACK}}"}}'),
        ("callback", "PUT /events\n\n{}"),
        ("reply", "200"),
        ("answer", "204"),
    ),
    "a subscription to everything": (
        ("request", f'PUT /v2/subscriptions\n{_MINE}\n{_JSON}\n\n[{{"endpoint-name": "*"}}]'),
        ("answer", "204"),
    ),
}
"""Kinds and texts of the steps behind each phrase."""


def given(phrase: str, line: int) -> list[Step]:
    """The steps of one phrase; ``KeyError`` for one that nobody knows."""
    return [Step(kind=kind, name="given", text=text, line=line) for kind, text in GIVEN[phrase]]


def expanded(step: Step) -> list[Step]:
    """The steps that a block stands for; most stand for themselves."""
    name, _, count = step.name.partition("*")
    if count:
        named = [msgspec.structs.replace(step, name=f"{name}{number}") for number in range(1, int(count) + 1)]
        return [one for step in named for one in expanded(step)]
    if step.kind == "events":
        posted = f"POST /gateway/v1/events\nAuthorization: Bearer {{GATEWAY_KEY}}\n{_JSON}\n\n{step.text}"
        return [_like(step, "request", posted), _like(step, "answer", "202")]
    if step.kind == "open":
        return [_like(step, "request", f"{step.text}\n{_UPGRADE}"), _like(step, "answer", "101")]
    return [step]


def _like(step: Step, kind: str, text: str) -> Step:
    return Step(kind=kind, name=step.name, text=text, line=step.line)
