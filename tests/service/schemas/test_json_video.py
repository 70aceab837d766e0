from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.errors import BadParameter
from adafocus.service.schemas.json_video import LONG_STRING_BYTES, MAX_REST_BYTES, PLACEHOLDER, VideoInJson


def separate(text: bytes, *, chunk: int = 1 << 16) -> tuple[bytes, bytes | None]:
    """The rest of the JSON and the video, from pieces of this size."""
    found: list[bytes] = []
    taken = VideoInJson(found.append)
    for start in range(0, len(text), chunk):
        taken.feed(text[start : start + chunk])
    return taken.finish(), b"".join(found) if taken.found else None


def request(video: bytes, **changes: Any) -> dict[str, Any]:
    return {"id": 'quote " and \\ backslash', "inputs": [{"data": [base64.b64encode(video).decode()]}], **changes}


@given(st.binary(max_size=20_000), st.integers(1, 9000), st.integers(0, 4))
def test_the_video_comes_out_whole_however_the_request_arrives(video: bytes, chunk: int, indent: int) -> None:
    whole = request(video, parameters={"exit": "fast", "text": "ü€"})
    text = json.dumps(whole, indent=indent or None, ensure_ascii=indent % 2 == 0)
    rest, found = separate(text.encode(), chunk=chunk)
    if found is None:
        assert json.loads(rest) == whole
        assert len(base64.b64encode(video)) <= LONG_STRING_BYTES
    else:
        assert found == video
        assert json.loads(rest) == {**whole, "inputs": [{"data": [PLACEHOLDER]}]}


@given(st.text(alphabet='"\\a,[', max_size=LONG_STRING_BYTES // 2), st.integers(1, 9000), st.integers(0, 4000))
def test_short_strings_stay_whatever_is_in_them(text: str, chunk: int, length: int) -> None:
    whole = {"id": text, "inputs": [text, "a" * length, [text] * 3]}
    rest, found = separate(json.dumps(whole).encode(), chunk=chunk)
    assert found is None
    assert json.loads(rest) == whole


def test_slashes_may_be_escaped() -> None:
    video = b"\xff" * 9001  # nothing but slashes in base64
    text = json.dumps(request(video)).replace("/", "\\/").encode()
    for chunk in (1, 2, 3, 5, 1000, 1 << 20):
        assert separate(text, chunk=chunk)[1] == video


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("A" * 5000 + "\\u0041" * 4, "without escapes"),
        ("A" * 5000 + '\\"', "without escapes"),
        ("A" * 5000 + "!AAA", "must be base64"),
        ("A" * 5001, "must be base64"),
        ("A" * 5000 + "AA==" + "AAAA" * 5000, "must be base64"),
        ("A" * 4998 + "=====", "must be base64"),
        ('A","' * 40_000, f"more than {MAX_REST_BYTES} bytes"),
    ],
)
def test_what_is_no_video_is_refused(data: str, says: str) -> None:
    text = '{"inputs":[{"data":["' + data + '"]}]}'
    for chunk in (7, 1 << 16):
        with pytest.raises(BadParameter, match=says):
            separate(text.encode(), chunk=chunk)


def test_two_videos_are_one_too_many() -> None:
    with pytest.raises(BadParameter, match="two long strings"):
        separate(json.dumps({"a": "A" * 8000, "b": "A" * 8000}).encode())


def test_escapes_are_refused_as_soon_as_they_come() -> None:
    """Sixty megabytes of them cost 380 MB before."""
    taken = VideoInJson(lambda _: None)
    with pytest.raises(BadParameter):
        taken.feed(b'{"data":"' + b"\\u0041" * 20_000)
    assert len(taken.finish()) <= MAX_REST_BYTES + 1


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_kept_or_refused(text: bytes, chunk: int) -> None:
    rest, found = separate(text, chunk=chunk)
    assert (rest, found) == (text, None)
