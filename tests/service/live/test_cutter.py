"""Where a stream is cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.live.cutter import Cutter


def verdicts(packets: list[tuple[float, bool]], window_s: float = 2.0) -> str:
    """One letter for each packet."""
    cutter = Cutter(window_s)
    return "".join(cutter.see(time_s, key=key)[0] for time_s, key in packets)


def test_a_window_begins_at_the_first_key_frame_after_its_length() -> None:
    packets = [(n / 2, n % 3 == 0) for n in range(12)]  # a key frame every 1.5 s
    assert verdicts(packets) == "caaaaacaaaaa"


def test_what_comes_before_the_first_key_frame_is_left_out() -> None:
    assert verdicts([(0, False), (1, False), (2, True), (3, False)]) == "ssca"


def test_a_leap_of_the_clock_begins_another_window_at_the_next_key_frame() -> None:
    assert verdicts([(0, True), (1, False), (500, False), (501, True), (502, False)]) == "casca"
    assert verdicts([(100, True), (101, False), (3, False), (4, True), (5, False)]) == "casca"


def test_without_key_frames_a_window_does_not_grow_for_ever() -> None:
    found = verdicts([(0, True)] + [(float(n), False) for n in range(1, 30)] + [(30, True)])
    assert found == "c" + "a" * 7 + "s" * 22 + "c"


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), max_size=60), st.floats(0.5, 20))
def test_every_window_begins_with_a_key_frame_and_is_bounded(
    packets: list[tuple[float, bool]], window_s: float
) -> None:
    cutter, start = Cutter(window_s), None
    for time_s, key in packets:
        verdict = cutter.see(time_s, key=key)
        if verdict == "cut":
            assert key
            start = time_s
        elif verdict == "add":
            assert start is not None
            assert time_s - start < 4 * window_s
        else:
            assert cutter.start_s is None
