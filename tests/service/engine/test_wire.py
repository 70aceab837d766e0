from __future__ import annotations

import os
import pickle
import socket
from array import array

import numpy as np
import pytest

from adafocus.service.engine.messages import Commands, Ended, Failure, Report, Run, StepTable, Submit
from adafocus.service.engine.wire import Attach, Detach, Inbox, packed


def test_messages_come_whole_and_in_order_however_they_are_cut() -> None:
    here, there = socket.socketpair()
    inbox = Inbox(there)
    commands = Commands(drained=[3], cancelled=[5])
    commands.frames.extend((1, 0, 7, 2, 0))
    data = b"".join(map(packed, (Detach(1), commands, Detach(2))))
    found: list[object] = []
    with here, there:
        for start in range(0, len(data), 11):
            here.sendall(data[start : start + 11])
            assert inbox.receive()
            found += inbox.messages()
        first, second, third = found
        assert (first, third) == (Detach(1), Detach(2))
        assert isinstance(second, Commands)
        assert (second.drained, second.cancelled) == ([3], [5])
        assert second.frame_table().tolist() == [[1, 0, 7, 2, 0]]


def test_a_descriptor_comes_with_its_message() -> None:
    here, there = socket.socketpair()
    inbox = Inbox(there)
    with here, there:
        fd = os.memfd_create("adafocus-test")
        os.write(fd, b"seen")
        socket.send_fds(here, [packed(Attach(4, 2, 8))], [fd])
        assert inbox.receive()
        assert list(inbox.messages()) == [Attach(4, 2, 8)]
        received = inbox.fds.popleft()
        assert os.pread(received, 4, 0) == b"seen"
        os.close(received)
        os.close(fd)


@pytest.mark.parametrize("unread", [b"", b"what the other end never reads"])
def test_the_stream_ends_when_the_other_end_is_closed(unread: bytes) -> None:
    here, there = socket.socketpair()
    inbox = Inbox(there)
    with there:
        there.sendall(unread)
        here.close()
        assert not inbox.receive()


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("after_glance", [False, True])
def test_a_report_arrives_as_it_was_sent(steps: int, after_glance: bool) -> None:
    numbers = np.random.default_rng(steps)
    table = StepTable(
        numbers.random((steps, 2), dtype=np.float32),
        numbers.random((steps, 5), dtype=np.float32)[:, ::-1],
        np.full(steps, np.nan, dtype=np.float32),
        numbers.random((steps, 4)),
        after_glance,
    )
    ended = Ended(3, "confident" if steps else Failure.NO_FRAME, table, steps, 0.25, "why")
    sent = Report([Run(2, 0.1, 0.2, 1)], [([1], [2])], [3], [([4], [5])], [(6, table)], [ended], [7])
    got = pickle.loads(packed(sent)[8:])  # noqa: S301 - our own
    assert isinstance(got, Report)
    for name in ("runs", "gathered", "glanced", "stepped", "freed"):
        assert getattr(got, name) == getattr(sent, name)
    ((slot, watched),), (end,) = got.watched, got.ended
    assert slot == 6
    assert end._replace(steps=table) == ended
    for other in (watched, end.steps):
        assert other.after_glance is after_glance
        for name in ("patch_centres", "logits", "confidences", "seconds"):
            ours, theirs = getattr(table, name), getattr(other, name)
            assert ours.dtype == theirs.dtype
            assert np.array_equal(ours, theirs, equal_nan=True)


def test_commands_arrive_as_they_were_sent() -> None:
    sent = Commands([Submit(1, (0.5,), 2, (1,), 3.0, 4.0, False)], array("q", range(10)), [5], [6])
    assert pickle.loads(packed(sent)[8:]) == sent  # noqa: S301 - our own
    assert not pickle.loads(packed(Commands())[8:])  # noqa: S301 - our own
