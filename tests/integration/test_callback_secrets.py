"""What an application gives away with its callback stays secret: no log, error or metric has any of it."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
import trio
from support.daemon import log_shown, new_tenant, open_daemon
from support.receiver import RESET, answer, open_receiver
from support.tenants import EVERYTHING

pytestmark = pytest.mark.slow

HEADER, PATH, PAYLOAD, ANSWER = "HEADERVALUE", "PATHTOKEN", "UEFZTE9BRA==", b"ANSWEROFTHERECEIVER"
SECRET = base64.b64encode(b"the secret that signs it all").decode()


async def test_nothing_secret_is_told_however_deliveries_go(tmp_path: Path) -> None:
    config = "[tiers.commercial]\nretry_initial_s = 0.05\nretry_max_s = 0.1\n"
    script = [
        answer(500, ANSWER),
        answer(),
        answer(500, ANSWER),
        RESET,
        answer(413, ANSWER),
        answer(200, ANSWER),
    ]
    with open_daemon(tmp_path, "--allow-private-callbacks", config=config) as running, log_shown(running):
        async with open_receiver(*script) as receiver:
            tenant = await new_tenant(running)
            key = tenant.application.key
            assert key is not None
            content = {
                "url": f"{receiver.url}{PATH}",
                "headers": {"Authorization": f"Bearer {HEADER}"},
                "signing": {"secret": f"whsec_{SECRET}"},
            }
            said = [
                await tenant.application.send("PUT", "/v2/notification/callback", content) for _ in range(2)
            ]
            assert [reply.status for reply in said] == [400, 204]
            bad = {**content, "headers": {"Authorization": f"Bearer {HEADER}\n", f"X {HEADER}": "x"}}
            said.append(await tenant.application.send("PUT", "/v2/notification/callback", bad))
            bad = {**content, "signing": {"secret": f"whsec_{SECRET}?"}}
            said.append(await tenant.application.send("PUT", "/v2/notification/callback", bad))
            assert (await tenant.application.send("PUT", "/v2/subscriptions", EVERYTHING)).status == 204
            await tenant.gateway.post_events([{"ep": "d", "path": "/1", "payload": PAYLOAD}])
            requests = await receiver.wait_requests(6)
            for request in requests:
                assert request.values("Authorization") == [f"Bearer {HEADER}".encode()]
            assert PAYLOAD.encode() in requests[-1].body
            said.append(await tenant.gateway.send("GET", "/metrics"))
    told = running.log.read_text() + "".join(f"{reply.headers}{reply.body!r}" for reply in said)
    assert "delivery.failed" in told
    for secret in (f"Bearer {HEADER}", PATH, PAYLOAD, ANSWER.decode(), key.key, SECRET):
        assert secret not in told
    kept = await trio.to_thread.run_sync(files_with, tmp_path, SECRET.encode())
    assert {path.name for path in kept} <= {"registry.sqlite", "registry.sqlite-wal"}
    assert [stat.S_IMODE(path.stat().st_mode) for path in kept] == [0o600] * len(kept) != []


def files_with(folder: Path, text: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]
