"""Events posted to a webhook: signed, repeated, and never too many at once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
import ssl

import pytest

from adafocus.service.live.outputs import MAX_QUEUE, RETRY_SECONDS, JsonLines, Webhook, signature
from tests.service.sources.servers import Request, head, serving_http
from tests.tls import server_context, trusting_the_certificate

KEY = b"a key of some bytes."
SECRET = "whsec_" + base64.b64encode(KEY).decode()
ROW = {"type": "begin", "camera": "gate", "label": "bridge_up"}


def test_the_signature_is_that_of_standard_webhooks() -> None:
    # The example of the specification's reference implementation.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105
    body = b'{"test": 2432232314}'
    found = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_must_be_base64() -> None:
    with pytest.raises(ValueError, match="whsec_"):
        Webhook("http://127.0.0.1/", "whsec_not base64!", wall_clock=lambda: 0.0)


def test_rows_are_lines_of_json() -> None:
    stream = io.StringIO()
    JsonLines(stream).put(ROW)
    assert json.loads(stream.getvalue()) == ROW


class Receiver:
    """Answers with some statuses in turn, and checks every signature."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.ids: list[str] = []

    async def handle(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.ids.append(request.headers["webhook-id"])
        body = json.dumps(ROW).encode()
        signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + body
        expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
        assert request.headers["webhook-signature"] == f"v1,{expected}"
        writer.write(head(self.statuses.pop(0), 0, Connection="close"))
        await writer.drain()
        writer.close()


async def post(receiver: Receiver, tls: ssl.SSLContext | None = None) -> tuple[Webhook, list[float]]:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with serving_http(receiver.handle, tls) as server:
        webhook = Webhook(server.url("/hook"), SECRET, wall_clock=lambda: 1000.0, pause=pause)
        running = asyncio.create_task(webhook.run())
        webhook.put(ROW)
        webhook.put({"type": "window", "camera": "gate"})
        await webhook.flush(30)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await webhook.close()
    return webhook, pauses


async def test_an_event_is_posted_again_until_it_is_accepted() -> None:
    receiver = Receiver(503, 500, 204)
    webhook, pauses = await post(receiver)
    assert (webhook.delivered, webhook.dropped) == (1, 0)
    assert pauses == list(RETRY_SECONDS[:2])
    assert len(set(receiver.ids)) == 1, "the receiver can tell that it is the same"


async def test_an_event_is_posted_over_https_to_a_receiver_with_a_valid_certificate_only() -> None:
    webhook, _ = await post(Receiver(), server_context())
    assert (webhook.delivered, webhook.dropped) == (0, 1)
    with trusting_the_certificate():
        webhook, pauses = await post(Receiver(204), server_context())
    assert (webhook.delivered, webhook.dropped, pauses) == (1, 0, [])


async def test_an_event_that_is_refused_is_given_up_at_once() -> None:
    webhook, pauses = await post(Receiver(410))
    assert (webhook.delivered, webhook.dropped, pauses) == (0, 1, [])


async def test_an_event_is_given_up_after_the_last_pause() -> None:
    webhook, pauses = await post(Receiver(*[500] * (len(RETRY_SECONDS) + 1)))
    assert (webhook.delivered, webhook.dropped, pauses) == (0, 1, list(RETRY_SECONDS))


async def test_the_queue_is_bounded_and_the_oldest_goes() -> None:
    webhook = Webhook("http://127.0.0.1:1/", SECRET, wall_clock=lambda: 0.0)
    for number in range(MAX_QUEUE + 3):
        webhook.put({**ROW, "number": number})
    assert webhook.dropped == 3
    await webhook.close()
