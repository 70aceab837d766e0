"""The body of a request at the level of ASGI messages."""

import pytest

from adafocus.service.errors import BadParameter, TooLarge
from adafocus.service.http.body import BodyReader, ClientDisconnected

from .clients import DISCONNECT, Client, part


async def collect(body: BodyReader) -> bytes:
    return b"".join([chunk async for chunk in body.chunks()])


async def test_the_body_is_read_to_its_end_and_counted() -> None:
    ends: list[str] = []
    body = Client([part(b"ab"), part(b""), part(b"c", more=False)]).body(on_complete=lambda: ends.append("complete"))
    assert not body.complete
    assert await collect(body) == b"abc"
    assert body.complete
    assert body.received_bytes == 3
    assert ends == ["complete"]


async def test_a_request_without_a_body_is_complete_and_nothing_is_received() -> None:
    client = Client(headers={"content-length": "0"})
    body = client.body()
    assert body.complete
    assert await collect(body) == b""
    assert client.asked == 0


async def test_a_client_that_disconnects_during_the_upload() -> None:
    body = Client([part(b"ab"), DISCONNECT]).body()
    with pytest.raises(ClientDisconnected):
        await collect(body)


async def test_exact_reads_across_chunks_then_the_last_bytes() -> None:
    body = Client([part(b"ab"), part(b"cdef"), part(b"gh", more=False)]).body()
    assert await body.readexactly(3) == b"abc"
    assert await body.readexactly(0) == b""
    assert await body.readexactly(1) == b"d"
    assert [chunk async for chunk in body.last_chunks(4)] == [b"ef", b"gh"]


async def test_bytes_that_were_read_too_far_come_first_in_whatever_is_read_next() -> None:
    body = Client([part(b"abcd"), part(b"ef", more=False)]).body()
    assert await body.readexactly(1) == b"a"
    assert await body.read(5, "too large") == b"bcdef"


@pytest.mark.parametrize("count", [3, 9])
async def test_last_bytes_that_are_more_or_fewer_than_declared(count: int) -> None:
    body = Client([part(b"ab"), part(b"cd", more=False)]).body()
    with pytest.raises(BadParameter):
        [chunk async for chunk in body.last_chunks(count)]


async def test_a_body_that_ends_in_the_middle_of_an_exact_read_says_how_much_is_missing() -> None:
    body = Client([part(b"ab", more=False)]).body()
    with pytest.raises(BadParameter, match="3 bytes before"):
        await body.readexactly(5)


async def test_a_whole_read_has_a_limit() -> None:
    assert await Client([part(b"abc", more=False)]).body().read(3, "no") == b"abc"
    with pytest.raises(TooLarge, match="no more than two"):
        await Client([part(b"abc", more=False)]).body().read(2, "no more than two")


async def test_discarding_ends_at_its_limit_at_the_end_and_at_a_disconnect() -> None:
    client = Client([part(b"x" * 10)] * 50)
    await client.body().discard(35)
    assert client.asked == 4
    await Client([part(b"x", more=False)]).body().discard(100)
    await Client([part(b"x"), DISCONNECT]).body().discard(100)
