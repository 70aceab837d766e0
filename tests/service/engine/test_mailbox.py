from __future__ import annotations

import math
import time
from array import array
from typing import cast

import pytest

from adafocus.service.engine.device import Done, InFlight
from adafocus.service.engine.mailbox import Mailbox
from adafocus.service.engine.messages import FRAME_FIELDS, Commands, Submit

SOON, NEVER = 0.0, math.inf


def frames(count: int) -> Commands:
    return Commands(frames=array("q", [0] * count * FRAME_FIELDS))


def video(deadline: float = NEVER) -> Commands:
    return Commands(submitted=[Submit(0, (), 1, (), 0.0, deadline, watched=False)])


def emptied(mailbox: Mailbox) -> list[object]:
    taken: list[object] = []
    while (letter := mailbox.take()) is not None:
        taken.append(letter[0] if isinstance(letter, tuple) else letter)
    return taken


def test_whatever_is_posted_wakes_a_loop_whose_device_is_idle() -> None:
    mailbox = Mailbox()
    mailbox.post(video())
    assert mailbox.has_event
    assert mailbox.wait(time.monotonic() + 60) == []


def test_frames_wake_the_loop_when_there_are_enough_for_another_batch() -> None:
    mailbox = Mailbox()
    mailbox.expect(3, NEVER)
    for _ in range(2):
        mailbox.post(frames(1))
        assert not mailbox.has_event
    mailbox.post(frames(1))
    assert mailbox.has_event


def test_frames_that_the_loop_has_taken_in_do_not_count_again() -> None:
    mailbox = Mailbox()
    mailbox.expect(2, NEVER)
    mailbox.post(frames(1))
    emptied(mailbox)
    mailbox.expect(2, NEVER)
    mailbox.post(frames(1))
    assert not mailbox.has_event


@pytest.mark.parametrize("ends", [Commands(drained=[1]), Commands(cancelled=[1]), video(deadline=5.0)])
def test_what_may_end_a_video_before_the_batch_does_wakes_the_loop(ends: Commands) -> None:
    mailbox = Mailbox()
    mailbox.expect(math.inf, 6.0)
    mailbox.post(video(deadline=7.0))
    assert not mailbox.has_event
    mailbox.post(ends)
    assert mailbox.has_event


def test_nobody_wakes_the_loop_for_what_can_wait_until_somebody_says_so() -> None:
    mailbox = Mailbox()
    mailbox.post(frames(1), wake=False)
    assert not mailbox.has_event
    mailbox.wake()
    assert mailbox.has_event
    assert mailbox.wait(SOON) == []
    emptied(mailbox)
    mailbox.wake()
    assert not mailbox.has_event


def test_what_was_posted_while_the_loop_was_at_work_is_not_left_lying() -> None:
    mailbox = Mailbox()
    mailbox.expect(math.inf, NEVER)  # it has begun a batch, and is about to see that it has ended
    mailbox.post(frames(1))
    assert not mailbox.has_event
    mailbox.expect(0, NEVER)
    assert mailbox.has_event


def test_letters_are_taken_in_the_order_of_posting_and_finished_batches_come_together() -> None:
    mailbox = Mailbox()
    first, second = video(), frames(1)
    mailbox.post(first)
    mailbox.detach(7)
    mailbox.post(second)
    assert emptied(mailbox) == [first, 7, second]
    done = [Done(cast("InFlight", None), RuntimeError()) for _ in range(2)]
    for batch in done:
        mailbox.done(batch)
    assert mailbox.wait(SOON) == done
    mailbox.close()
    assert mailbox.wait(SOON) is None
