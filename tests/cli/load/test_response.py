from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.cli.load.response import Response, ResponseError, ResponseReader

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
COMPLETE = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Response(200, b"hello", True)),
    "empty": (b"HTTP/1.1 503 \r\ncontent-length:0\r\nConnection: close\r\n\r\n", Response(503, b"", False)),
    "continue": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Too Large\r\nContent-Length: 1\r\n\r\nx",
        Response(413, b"x", True),
    ),
    "chunked": (CHUNKED + b"3;name=v\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: 1\r\n\r\n", Response(200, b"hello", True)),
    "no chunk": (CHUNKED + b"0\r\n\r\n", Response(200, b"", True)),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", Response(204, b"", True)),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Response(200, b"ok", False)),
    "HTTP/1.0 kept": (
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
        Response(200, b"ok", True),
    ),
}


@pytest.mark.parametrize("name", COMPLETE)
@given(data=st.data())
def test_a_response_may_arrive_in_any_pieces(name: str, data: st.DataObject) -> None:
    whole, expected = COMPLETE[name]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    reader = ResponseReader()
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    *early, last = [reader.feed(piece) for piece in pieces if piece]
    assert last == expected
    assert early == [None] * len(early)


def test_a_response_without_a_length_ends_with_the_connection() -> None:
    reader = ResponseReader()
    assert reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhel") is None
    assert reader.feed(b"lo") is None
    assert reader.end() == Response(200, b"hello", False)


def test_a_connection_on_which_more_came_than_the_response_is_not_used_again() -> None:
    response = ResponseReader().feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK")
    assert response == Response(200, b"x", False)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"", "without a response"),
        (b"HTTP/1.1 2", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", "in the middle"),
        (CHUNKED + b"5\r\nhe", "in the middle"),
    ],
)
def test_a_response_that_is_cut_off_is_none(sent: bytes, why: str) -> None:
    reader = ResponseReader()
    assert reader.feed(sent) is None
    with pytest.raises(ResponseError, match=why):
        reader.end()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "begins with"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "begins with"),
        (b"HTTP/1.1\r\n\r\n", "begins with"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "Content-Length"),
        (CHUNKED + b"xyz\r\n", "hexadecimal"),
        (CHUNKED + b"-1\r\n", "longer"),
        (CHUNKED + b"fffffffff\r\n", "longer"),
        (b"x" * (65 << 10), "headers are longer"),
    ],
)
def test_what_is_no_response_is_refused(sent: bytes, why: str) -> None:
    with pytest.raises(ResponseError, match=why):
        ResponseReader().feed(sent)
