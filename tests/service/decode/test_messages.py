from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.decode.ipc import MAX_MESSAGE_BYTES, encode, socket_pair
from adafocus.service.decode.messages import Done, FrameReady, Opened, ProtocolError, Ready, parse, printable
from adafocus.service.decode.worker.control import Control
from adafocus.video.limits import MediaLimits
from adafocus.video.probe import VideoInfo
from tests.service.decode.factory import job

COST = {"frames_decoded": 41, "seconds": 0.5, "cpu_seconds": 0.4}
FRAME = {"type": "frame", "slot": 1, "position": 3, "index": 40, "time_s": 1.6, **COST}
INFO = {
    "container": "mp4", "codec": "h264", "width": 64, "height": 48, "fps": 25.0, "duration_s": 1.6, "frames": 40,
    "rotation": 0,
}  # fmt: skip
OPENED = {"type": "opened", "info": INFO, "frames_decoded": 1, "seconds": 0.1, "cpu_seconds": 0.1}
DONE = {"type": "done", **COST, "capped": False, "error": None}
SANDBOX = {
    "no_new_privileges": True, "landlock": 3, "seccomp": True, "memory_limit_bytes": None, "missing": ["a: b"]
}  # fmt: skip
READY = {"type": "ready", "sandbox": SANDBOX}


def test_what_may_be_said_is_understood() -> None:
    (frame,) = parse(encode(FRAME))
    assert isinstance(frame, FrameReady)
    assert (frame.slot, frame.position, frame.index) == (1, 3, 40)
    (opened,) = parse(encode(OPENED))
    assert isinstance(opened, Opened)
    assert opened.video() == VideoInfo("mp4", "h264", 64, 48, 25.0, 1.6, 40, 0)
    (done,) = parse(encode(DONE))
    assert isinstance(done, Done)
    (ready,) = parse(encode(READY))
    assert isinstance(ready, Ready)
    assert ready.sandbox.report().missing == ("a: b",)


def test_messages_that_come_together_are_told_apart() -> None:
    frame, done = parse(encode(FRAME) + b"\n" + encode(DONE))
    assert isinstance(frame, FrameReady)
    assert isinstance(done, Done)
    with pytest.raises(ProtocolError):
        parse(encode(FRAME) + b"\n" + encode({**DONE, "type": "eval"}))


@pytest.mark.parametrize(
    "message",
    [
        {**FRAME, "slot": -1},
        {**FRAME, "slot": "1"},
        {**FRAME, "slot": 1.5},
        {**FRAME, "slot": True},
        {**FRAME, "index": 1 << 50},
        {**FRAME, "more": 1},
        {name: value for name, value in FRAME.items() if name != "index"},
        {**OPENED, "info": {**INFO, "width": 0}},
        {**OPENED, "info": {**INFO, "rotation": 45}},
        {**OPENED, "info": {**INFO, "container": "../../etc"}},
        {**OPENED, "info": {**INFO, "fps": -1}},
        {**DONE, "error": {"code": "x" * 100, "detail": ""}},
        {**DONE, "error": {"code": "undecodable", "detail": "x" * 5000}},
        {**DONE, "type": "eval"},
        {},
    ],
)
def test_what_may_not_be_said_is_refused(message: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        parse(encode(message))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n \n",
        b"\x80\x04N.",
        b"[" * 60_000,
        b'{"type":"need","size":' + b"9" * 5000 + b"}",
        json.dumps({**FRAME, "seconds": float("nan")}).encode(),
        json.dumps({**FRAME, "time_s": float("inf")}).encode(),
        b" " * (MAX_MESSAGE_BYTES + 1),
    ],
)
def test_bytes_that_are_no_message_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(data)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(data)


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode({"text": "x" * MAX_MESSAGE_BYTES})


def test_a_workers_words_fit_on_a_line() -> None:
    assert printable("a\nb\x1b[31m\u202e" + "c" * 500) == "a b [31m " + "c" * (300 - 9)


def test_a_job_arrives_as_it_was_sent() -> None:
    ours, theirs = socket_pair()
    wanted = job(limits=MediaLimits(max_pixels=1000, codecs=("h264",)))
    with ours, theirs, Path(os.devnull).open("rb") as file:
        socket.send_fds(ours, [encode(wanted.message(10, False, 20))], [file.fileno()] * 2)
        control = Control(theirs, slots=3)
        got = control.next_job()
        assert got is not None
        assert (got.order, got.limits, got.crop) == (wanted.sampling.order, wanted.limits, wanted.geometry.crop)
        assert (control.size, control.complete, control.expected) == (10, False, 20)
        assert control.free == [0, 1, 2]
        assert got.fd >= 0
        ours.close()
        assert control.next_job() is None
        os.close(got.fd)
        os.close(got.frames_fd)
