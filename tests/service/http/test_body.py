"""The body of a request at the level of ASGI messages."""

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import pytest
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message

from service.errors import UploadTimeout
from service.http.body import KEEP_ALIVE_BYTES, Answer, ClientLeft, Pace, Upload

GONE: Message = {"type": "http.disconnect"}


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@dataclass
class Client:
    """Sends the messages it was made with, then stays silent, and remembers what it was told."""

    messages: Sequence[Message]
    headers: dict[str, str] = field(default_factory=lambda: {"transfer-encoding": "chunked"})
    asked: int = 0
    told: list[Message] = field(default_factory=list)

    async def receive(self) -> Message:
        self.asked += 1
        if self.asked > len(self.messages):
            await asyncio.Event().wait()
        return self.messages[self.asked - 1]

    async def send(self, message: Message) -> None:
        self.told.append(message)

    def upload(self, linger_bytes: int = 100) -> Upload:
        return Upload(self.receive, Headers(self.headers), linger_bytes=linger_bytes, pace=Pace(0, 0))

    async def answer_early(self, linger_bytes: int = 100) -> None:
        response = Answer(Response("no", status_code=413), self.upload(linger_bytes))
        await response({"type": "http", "method": "POST"}, self.receive, self.send)

    @property
    def closes(self) -> bool:
        return (b"connection", b"close") in self.told[0]["headers"]


async def collect(upload: Upload) -> bytes:
    return b"".join([chunk async for chunk in upload.chunks()])


async def test_the_body_is_read_to_its_end_and_counted() -> None:
    upload = Client([part(b"ab"), part(b""), part(b"c", more=False)]).upload()
    assert not upload.complete
    assert await collect(upload) == b"abc"
    assert upload.complete
    assert upload.received == 3


async def test_a_request_that_announces_no_body_is_complete_and_is_not_asked() -> None:
    client = Client([], headers={"content-length": "0"})
    assert client.upload().complete
    assert await collect(client.upload()) == b""
    assert client.asked == 0


async def test_a_client_that_leaves_while_it_sends() -> None:
    upload = Client([part(b"ab"), GONE]).upload()
    with pytest.raises(ClientLeft):
        await collect(upload)


async def test_a_client_that_leaves_while_we_work_ends_the_work() -> None:
    upload = Client([part(b"ab", more=False), GONE]).upload()
    ended = asyncio.Event()

    async def work() -> None:
        await collect(upload)
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ClientLeft):
        await upload.unless_client_leaves(work())
    assert ended.is_set()


async def test_work_that_is_done_is_returned_and_its_error_raised() -> None:
    async def fail() -> None:
        raise LookupError

    assert await Client([part(b"a", more=False)]).upload().unless_client_leaves(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(LookupError):
        await Client([part(b"a", more=False)]).upload().unless_client_leaves(fail())


async def test_cancelling_the_request_cancels_the_work() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    request = asyncio.create_task(Client([]).upload().unless_client_leaves(work()))
    await started.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert ended.is_set()


async def test_an_early_answer_is_whole_before_the_rest_is_thrown_away() -> None:
    client = Client([part(b"x" * 10), part(b"x" * 10, more=False)])
    await client.answer_early()
    start, body, end = client.told
    assert start["status"] == 413
    assert (body["body"], body["more_body"]) == (b"no", True)
    assert (end["body"], end["more_body"]) == (b"", False)
    assert client.asked == 2
    assert client.closes


async def test_the_rest_is_read_up_to_a_bound() -> None:
    client = Client([part(b"x" * 10)] * 50)
    await client.answer_early(linger_bytes=35)
    assert client.asked == 4
    assert client.told[-1]["more_body"] is False


async def test_a_client_that_leaves_after_an_early_answer_troubles_nobody() -> None:
    client = Client([part(b"x"), GONE])
    await client.answer_early()
    assert client.told[-1]["more_body"] is False


async def test_a_short_rest_keeps_the_connection_and_a_long_one_closes_it() -> None:
    for length, closes in ((KEEP_ALIVE_BYTES, False), (KEEP_ALIVE_BYTES + 1, True)):
        client = Client([part(b"", more=False)], headers={"content-length": str(length)})
        await client.answer_early()
        assert client.closes is closes


async def test_a_client_that_waits_to_be_invited_is_not() -> None:
    client = Client([], headers={"content-length": "5", "expect": "100-continue"})
    await client.answer_early()
    assert client.asked == 0
    assert client.closes
    assert client.told[-1]["body"] == b"no"


async def test_an_answer_after_the_whole_body_is_plain() -> None:
    client = Client([part(b"ab", more=False)])
    upload = client.upload()
    await collect(upload)
    await Answer(Response("yes"), upload)({"type": "http", "method": "POST"}, client.receive, client.send)
    assert [message["type"] for message in client.told] == ["http.response.start", "http.response.body"]
    assert not client.closes


@pytest.mark.parametrize(
    ("received", "waited", "slow"), [(0, 5, False), (22, 11, False), (21, 11, True), (9, 9.9, False)]
)
def test_a_pace_is_asked_for_once_the_grace_is_over(received: int, waited: float, slow: bool) -> None:
    pace = Pace(bytes_per_second=2, grace_seconds=10)
    with pytest.raises(UploadTimeout) if slow else nullcontext():
        pace.check(received, waited)
    Pace(0, 10).check(0, 1e6)
