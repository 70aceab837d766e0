from __future__ import annotations

import signal

import pytest

from adafocus.service.decode.exit_code import killed_from_outside, problem_of_exit


@pytest.mark.parametrize(
    ("code", "outside", "problem"),
    [
        (-signal.SIGKILL, True, "internal"),
        (-signal.SIGTERM, True, "internal"),
        (-signal.SIGSEGV, False, "undecodable"),
        (-signal.SIGSYS, False, "undecodable"),
        (-signal.SIGXCPU, False, "internal"),
        (0, False, "internal"),
        (1, False, "internal"),
    ],
)
def test_who_ended_a_worker_is_known_by_its_exit_code(code: int, outside: bool, problem: str) -> None:
    assert (killed_from_outside(code), problem_of_exit(code).code) == (outside, problem)
