"""The documents of a real daemon, read and tried by other people's programs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from support.daemon import REPLY_S, Daemon, open_daemon

EXAMPLES = int(os.environ.get("DISPATCHER_API_EXAMPLES", "3"))
HERE = Path(__file__).parent
NODE_MODULES = Path(os.environ.get("DISPATCHER_TEST_NODE_MODULES", HERE / "node_modules"))
ASYNCAPI_SCHEMA = NODE_MODULES / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
EVENT_STREAM = "/admin/v1/events"
EVENTS, JSON = "/gateway/v1/events", "application/json"
OF_JSON = ("a number with a fraction", "an integer beyond", "nested", "surrogate")
"""What we refuse in any JSON, and a schema cannot: 1.0 is an integer to it."""
CONFIG = """
[tiers.commercial]
long_poll_hold_s = 0.01
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with open_daemon(tmp_path_factory.mktemp("daemon"), config=CONFIG) as daemon:
        yield daemon


async def test_openapi_of_a_daemon_is_valid(daemon: Daemon) -> None:
    reply = await daemon.anyone.send("GET", "/openapi.json")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    OpenAPIV31SpecValidator(reply.content()).validate()


@pytest.mark.skipif(
    not ASYNCAPI_SCHEMA.is_file(),
    reason="the npm package @asyncapi/specs: npm install --prefix tests/integration, or name its folder "
    "in DISPATCHER_TEST_NODE_MODULES",
)
async def test_asyncapi_of_a_daemon_is_valid_by_the_published_schema(daemon: Daemon) -> None:
    document = (await daemon.anyone.send("GET", "/asyncapi.json")).content()
    published = jsonschema.Draft7Validator(json.loads(ASYNCAPI_SCHEMA.read_text()))
    assert [error.message for error in published.iter_errors(document)] == []
    assert list(published.iter_errors({**document, "channels": []})), "it says yes to anything"


class Prober:
    """Calls the operations of a daemon with requests that keep to the document, and with such as do not."""

    def __init__(self, daemon: Daemon, key: str | None) -> None:
        self._url = f"http://127.0.0.1:{daemon.port}"
        self._headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self.seen: Counter[int] = Counter()

    def try_all(self, role: str | None) -> None:
        """Every operation; one that wants another key only once, as it will say no before it reads."""
        schema = schemathesis.openapi.from_url(f"{self._url}/openapi.json")
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path == EVENT_STREAM:  # its answer has no end
                continue
            wanted = {name for way in operation.definition.raw["security"] for name in way}
            if wanted and role not in wanted:
                self._try(operation, GenerationMode.POSITIVE, examples=1)
            else:
                self._try(operation, GenerationMode.POSITIVE, EXAMPLES)
                with suppress(Unsatisfiable):  # it takes anything
                    self._try(operation, GenerationMode.NEGATIVE, EXAMPLES)

    def _try(self, operation: Any, mode: GenerationMode, examples: int) -> None:
        @settings(
            max_examples=examples,
            derandomize="DISPATCHER_API_EXAMPLES" not in os.environ,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def judge(case: Any) -> None:
            reply = case.call(base_url=self._url, headers=self._headers, timeout=REPLY_S)
            self.seen[reply.status_code] += 1
            assert reply.status_code != 500, f"{case.method} {case.path}: {reply.text}"
            if case.path == EVENTS and case.media_type == JSON and mode is GenerationMode.POSITIVE:
                is_of_json = any(words in reply.text for words in OF_JSON)
                assert reply.status_code != 400 or is_of_json, f"the model allows: {reply.text}"
            case.validate_response(reply, checks=[status_code_conformance, content_type_conformance])

        judge()


@pytest.mark.parametrize(
    ("role", "proof"), [("application", 204), ("gateway", 202), ("admin", 201), (None, 401)]
)
async def test_no_request_finds_a_failure_or_an_answer_that_is_not_in_the_document(
    daemon: Daemon, role: str | None, proof: int
) -> None:
    key = None if role is None else await daemon.create_key(role)
    prober = Prober(daemon, None if key is None else key.key)
    await trio.to_thread.run_sync(prober.try_all, role)
    assert prober.seen[proof], f"the requests did not get far: {prober.seen}"
