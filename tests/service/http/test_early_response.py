"""Responses that are sent before the upload has ended."""

from collections.abc import Sequence

import pytest
from starlette.responses import Response
from starlette.types import Message

from adafocus.service.http.early_response import KEEP_ALIVE_BYTES, send_response

from .clients import DISCONNECT, Client, part

SCOPE = {"type": "http", "method": "POST"}


async def answer_early(client: Client, max_discard_bytes: int = 100) -> None:
    await send_response(Response("no", status_code=413), client.body(), max_discard_bytes, SCOPE, client.send)


def closes(client: Client) -> bool:
    return (b"connection", b"close") in client.received[0]["headers"]


async def test_an_early_response_is_whole_before_the_rest_is_thrown_away() -> None:
    client = Client([part(b"x" * 10), part(b"x" * 10, more=False)])
    await answer_early(client)
    start, body, end = client.received
    assert start["status"] == 413
    assert (body["body"], body["more_body"]) == (b"no", True)
    assert (end["body"], end["more_body"]) == (b"", False)
    assert client.asked == 2
    assert closes(client)


@pytest.mark.parametrize(("messages", "asked"), [([part(b"x" * 10)] * 50, 4), ([part(b"x"), DISCONNECT], 2)])
async def test_the_rest_is_read_up_to_a_limit_or_a_disconnect(messages: Sequence[Message], asked: int) -> None:
    client = Client(messages)
    await answer_early(client, max_discard_bytes=35)
    assert client.asked == asked
    assert client.received[-1]["more_body"] is False


@pytest.mark.parametrize(("length", "closed"), [(KEEP_ALIVE_BYTES, False), (KEEP_ALIVE_BYTES + 1, True)])
async def test_a_short_rest_keeps_the_connection_and_a_long_one_closes_it(length: int, closed: bool) -> None:
    client = Client([part(b"", more=False)], headers={"content-length": str(length)})
    await answer_early(client)
    assert closes(client) is closed


async def test_a_client_that_waits_for_100_continue_is_not_asked_to_send() -> None:
    client = Client(headers={"content-length": "5", "expect": "100-continue"})
    await answer_early(client)
    assert client.asked == 0
    assert closes(client)
    assert client.received[-1]["body"] == b"no"


async def test_a_response_after_the_whole_body_is_plain() -> None:
    client = Client([part(b"ab", more=False)])
    body = client.body()
    await body.read(10, "")
    await send_response(Response("yes"), body, 100, SCOPE, client.send)
    assert [message["type"] for message in client.received] == ["http.response.start", "http.response.body"]
    assert not closes(client)
