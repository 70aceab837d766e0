from __future__ import annotations

import os
import socket

import pytest

from adafocus.service.engine.messages import Commands
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
