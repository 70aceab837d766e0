"""Places that several processes take from one another, here as several rows of one memory."""

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.engine.admission import Admission
from adafocus.service.engine.shared_places import SharedPlaces
from adafocus.service.errors import Overloaded
from tests.service.engine.factory import Recorder


@given(
    processes=st.integers(1, 4),
    places=st.integers(0, 6),
    turns=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=40),
)
def test_never_more_than_there_are_and_none_refused_while_one_is_free(
    processes: int, places: int, turns: list[tuple[int, bool]]
) -> None:
    fd = SharedPlaces.create(processes)
    rows = [SharedPlaces(fd, processes, places, row) for row in range(processes)]
    held = [0] * processes
    for process, takes in turns:
        row = process % processes
        if takes:
            taken = rows[row].take()
            assert taken == (sum(held) < places)
            held[row] += taken
        elif held[row]:
            rows[row].give_back()
            held[row] -= 1
        assert rows[0].taken == sum(held) <= places
    os.close(fd)


def test_what_a_process_held_is_free_when_it_has_ended_even_within_the_lock() -> None:
    fd = SharedPlaces.create(2)
    ours = SharedPlaces(fd, 2, 3, 0)
    code = (
        "import fcntl, os, sys; from adafocus.service.engine.shared_places import SharedPlaces\n"
        "fd = int(sys.argv[1]); places = SharedPlaces(fd, 2, 3, 1)\n"
        "assert all(places.take() for _ in range(3)); fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0); os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(fd)], pass_fds=[fd])
    assert ended.returncode == -9
    assert not ours.take()
    ours.release(1)
    assert [ours.take() for _ in range(4)] == [True, True, True, False]
    os.close(fd)


def test_admission_refuses_when_other_processes_hold_the_places() -> None:
    fd = SharedPlaces.create(2)
    admissions = [Admission(2, 100, Recorder(), lambda: 0.0, shared=SharedPlaces(fd, 2, 3, row)) for row in range(2)]
    with admissions[0].place(), admissions[0].place(), admissions[1].place():
        try:
            with admissions[1].place():
                raise AssertionError("there is no place")
        except Overloaded as refused:
            assert refused.headers["Retry-After"]
        assert admissions[1].places_taken == 1
    with admissions[1].place():
        assert admissions[1].places_taken == 1
    os.close(fd)
