"""Header fields are found by name; the first of several counts."""

from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from adafocus.service.http.head import Head, head_of

NAMES = st.sampled_from([b"host", b"accept", b"x-api-key", b"content-encoding"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=8)), max_size=6)


@given(raw=FIELDS, name=NAMES)
def test_it_finds_what_the_frameworks_own_headers_find(raw: list[tuple[bytes, bytes]], name: bytes) -> None:
    head, headers = Head(raw), Headers(raw=raw)
    assert head.get(name) == headers.get(name.decode(), "")
    assert list(head.all(name)) == headers.getlist(name.decode())
    assert (name in head) is (name.decode() in headers)


def test_a_request_has_one() -> None:
    scope = {"type": "http", "headers": [(b"host", b"h")]}
    assert head_of(scope) is head_of(scope)
