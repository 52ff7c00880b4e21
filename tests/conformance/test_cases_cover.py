"""Every status of every endpoint stands in a case, as the answer to a request there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.case_document import Case, read_cases

CASES = read_cases(Path(__file__).parent / "cases")

# 408, 431, 501, 503, 505 and 507 are the server's as a whole: they stand with the paths whose cases have
# them.  500 has none: there is no request that makes this server fail.  503 of events takes more accounts
# than a case has, since none may fill the memory for bodies: see unit/http/test_ingest_gate.py.
STATUSES = {
    "PUT /v2/notification/callback": {204, 400, 401, 403, 413, 415, 429},
    "GET /v2/notification/callback": {200, 401, 403, 404},
    "DELETE /v2/notification/callback": {204, 401, 403, 404},
    "PUT /v2/notification/websocket": {200, 201, 400, 401, 403, 413, 415},
    "GET /v2/notification/websocket": {200, 401, 403, 404},
    "DELETE /v2/notification/websocket": {204, 401, 403, 404},
    "GET /v2/notification/websocket-connect": {101, 400, 401, 403, 426},
    "GET /v2/notification/pull": {200, 204, 400, 401, 403, 409, 410},
    "PUT /v2/notification/pull": {204, 400, 401, 403, 413, 415},
    "DELETE /v2/notification/pull": {200, 401, 403},
    "GET /v2/notification/channel": {200, 401, 403, 404, 431, 505},
    "PUT /v2/subscriptions": {204, 400, 401, 403, 413, 415},
    "GET /v2/subscriptions": {200, 401, 403},
    "DELETE /v2/subscriptions": {204, 401, 403},
    "GET /v2/subscriptions/{device}": {200, 401, 403, 404},
    "DELETE /v2/subscriptions/{device}": {204, 401, 403},
    "PUT /v2/subscriptions/{device}/{path}": {200, 202, 400, 401, 403, 404, 429},
    "GET /v2/subscriptions/{device}/{path}": {200, 401, 403, 404},
    "DELETE /v2/subscriptions/{device}/{path}": {204, 401, 403},
    "POST /v2/device-requests/{device}": {202, 400, 401, 403, 404, 413, 415},
    "GET /v2/endpoints/{device}": {200, 401, 403, 404},
    "GET /v2/endpoints/{device}/{path}": {200, 202, 205, 400, 401, 403, 404, 409, 410, 502},
    "PUT /v2/endpoints/{device}/{path}": {202, 401, 403, 404, 413, 502},
    "POST /v2/endpoints/{device}/{path}": {204, 401, 403, 502},
    "DELETE /v2/endpoints/{device}/{path}": {202, 401, 403, 410, 429, 502},
    "POST /gateway/v1/events": {202, 400, 401, 403, 408, 413, 415, 422, 429, 431, 501, 507},
    "POST /gateway/v1/applications/{application}/events": {
        *(202, 400, 401, 403, 404, 413, 415, 422, 429, 507),
    },
    "GET /gateway/v1/connect": {101, 400, 401, 403, 426},
    "GET /healthz": {200},
    "GET /readyz": {200, 503},
    "GET /metrics": {200},
}
AS_HEALTHZ = {"/readyz", "/metrics"}  # the same handful of lines refuses other methods of all three
CLOSE_CODES = {1000, 1001, 1008, 1011, 1012}


@pytest.mark.parametrize("endpoint", STATUSES)
def test_each_status_of_the_endpoint_has_a_case(endpoint: str) -> None:
    wanted = re.compile(_as_expression(endpoint))
    found = {status for case in CASES for line, status in _answered(case) if wanted.fullmatch(line)}
    assert found >= STATUSES[endpoint], f"no case for {sorted(STATUSES[endpoint] - found)}"


@pytest.mark.parametrize("path", sorted({endpoint.partition(" ")[2] for endpoint in STATUSES} - AS_HEALTHZ))
def test_each_path_has_a_case_for_a_method_that_it_does_not_take(path: str) -> None:
    wanted = re.compile(_as_expression(f"[A-Z]+ {path}"))
    assert any(status == 405 and wanted.fullmatch(line) for case in CASES for line, status in _answered(case))


def test_each_close_code_has_a_case() -> None:
    texts = "\n".join(step.text for case in CASES for step in case.steps if step.kind == "frames")
    assert {int(code) for code in re.findall(r"^< close (\d+)", texts, re.MULTILINE)} == CLOSE_CODES


def _answered(case: Case) -> list[tuple[str, int]]:
    """Method and path of the requests, without the query, with the status that each must be answered."""
    asked: dict[str, str] = {}
    found: list[tuple[str, int]] = []
    for step in case.steps:
        first = step.text.partition("\n")[0]
        if step.kind == "request":
            asked[step.name] = re.split(r"\?| HTTP/", first)[0]
        elif step.kind == "answer":
            found.append((asked[step.name], int(first.partition(" ")[0])))
    return found


def _as_expression(endpoint: str) -> str:
    """``{path}`` is the rest, another name one segment."""
    return re.sub(r"\{[a-z]+\}", "[^/]+", endpoint.replace("{path}", ".+"))
