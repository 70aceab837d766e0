"""When a worker tells the service of frames: some come together."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from adafocus.service.decode.ipc import MAX_MESSAGE_BYTES, encode, socket_pair
from adafocus.service.decode.worker import control as control_module
from adafocus.service.decode.worker.control import ClosedError, Control


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Control, socket.socket]]:
    """A worker's connection, which looks at its socket at every check, and the service's end of it."""
    monkeypatch.setattr(control_module, "_LOOK_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(control_module, "_HELD_SECONDS", 1000.0)
    ours, theirs = socket_pair()
    with ours, theirs:
        ours.setblocking(False)
        yield Control(theirs, slots=2), ours


def packets(ours: socket.socket) -> list[bytes]:
    """What has arrived: one item for each time that the service has to wake up."""
    arrived = []
    while True:
        try:
            arrived.append(ours.recv(MAX_MESSAGE_BYTES))
        except BlockingIOError:
            return arrived


def test_after_the_first_frame_every_other_one_comes_with_its_successor_or_the_end(
    ends: tuple[Control, socket.socket],
) -> None:
    control, ours = ends
    for number in range(4):
        control.send_frame({"frame": number})
    assert packets(ours) == [b'{"frame":0}', b'{"frame":1}\n{"frame":2}']
    control.send({"done": 1})
    assert packets(ours) == [b'{"frame":3}\n{"done":1}']


def test_a_frame_is_held_back_for_a_moment_only(
    ends: tuple[Control, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    control, ours = ends
    control.send_frame({"frame": 0})
    assert packets(ours) == [b'{"frame":0}']
    control.send_frame({"frame": 1})
    control.check()
    assert packets(ours) == []
    control.send({"need": 1})
    assert packets(ours) == [b'{"frame":1}\n{"need":1}']
    monkeypatch.setattr(control_module, "_HELD_SECONDS", 0.0)
    control.send_frame({"frame": 2})
    control.check()
    assert packets(ours) == [b'{"frame":2}']


def test_a_worker_that_waits_holds_nothing_back(ends: tuple[Control, socket.socket]) -> None:
    control, ours = ends
    control.free = [1]
    control.send_frame({"frame": 0})
    assert packets(ours) == [b'{"frame":0}']
    control.send_frame({"frame": 1})
    assert control.wait_for_slot() == 1
    assert packets(ours) == [], "there was a slot, so it did not wait"

    def free_a_slot(*_: object) -> bool:
        assert packets(ours) == [b'{"frame":1}'], "before it waits"
        control.free.append(0)
        return False

    control._hear = free_a_slot  # type: ignore[method-assign]
    control.check = bool  # type: ignore[method-assign] # would hear, too
    assert control.wait_for_slot() == 0


def test_it_knows_whether_the_service_waits_for_the_end_of_a_closed_job(ends: tuple[Control, socket.socket]) -> None:
    control, ours = ends
    for silent in (True, False):
        ours.send(encode({"type": "close", "silent": silent}))
        with pytest.raises(ClosedError):
            control.wait_for_slot()
        assert control.silent == silent
        control.closing = False
