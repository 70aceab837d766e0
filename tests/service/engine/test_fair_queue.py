from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.engine.fair_queue import _CALLERS_KEPT, FairQueue


def add(queue: FairQueue[str], caller: str, *names: str) -> None:
    for number, name in enumerate(names):
        queue.add(caller, name, due=float(number), arrived=float(number))


def test_callers_take_turns_however_many_items_each_has() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "flood", *(f"f{number}" for number in range(100)))
    add(queue, "one", "o0", "o1")
    assert [queue.take(1.0) for _ in range(5)] == ["f0", "o0", "f1", "o1", "f2"]


def test_a_caller_whose_items_cost_more_gets_fewer() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "heavy", *["heavy"] * 50)
    add(queue, "light", *["light"] * 50)
    served = Counter[str]()
    for _ in range(40):
        name = queue.take(1.0)
        assert name is not None
        served[name] += 1
        queue.charge(name, 2.0 if name == "heavy" else 0.0)  # it took three times what was expected
    assert abs(served["light"] - 3 * served["heavy"]) <= 3


def test_a_caller_that_was_away_has_saved_nothing_up() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "busy", *["busy"] * 30)
    for _ in range(20):
        queue.take(1.0)
    add(queue, "new", *["new"] * 10)
    following = [queue.take(1.0) for _ in range(10)]
    assert following.count("busy") >= 4


def test_the_most_urgent_of_a_caller_is_next_and_the_least_urgent_leaves_first() -> None:
    queue: FairQueue[str] = FairQueue()
    for name, due in (("late", 9.0), ("urgent", 1.0), ("soon", 2.0)):
        queue.add("caller", name, due=due, arrived=0.0)
    assert queue.take_last("caller") == "late"
    assert [queue.take(1.0), queue.take(1.0), queue.take(1.0)] == ["urgent", "soon", None]
    assert queue.longest() is None
    assert queue.take_last("caller") is None


def test_the_newest_of_a_caller_may_be_taken_first() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "caller", "first", "second", "third")
    assert queue.first_arrival() == 0.0
    assert [queue.take(1.0, newest=True) for _ in range(4)] == ["third", "second", "first", None]
    assert queue.first_arrival() == float("inf")


def test_items_older_than_a_moment_leave_together_but_one_stays() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "a", "a0", "a1", "a2")
    add(queue, "b", "b0")
    assert queue.take_older(1.5) == ["a0", "a1", "b0"]
    assert len(queue) == 1
    assert queue.take_older(9.0) == []
    assert queue.take(1.0) == "a2"
    assert queue.take_older(9.0) == []


def test_an_item_that_leaves_is_not_served() -> None:
    queue: FairQueue[str] = FairQueue()
    add(queue, "caller", "a", "b")
    assert queue.discard("caller", "a")
    assert not queue.discard("caller", "a")
    assert not queue.discard("nobody", "a")
    assert list(queue) == ["b"]
    assert queue.take(1.0, among={"somebody else"}) is None
    assert queue.take(1.0, among={"caller"}) == "b"


def test_callers_that_come_once_are_forgotten() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(5 * _CALLERS_KEPT):
        queue.add(str(number), number, due=0.0, arrived=0.0)
        assert queue.take(1e-9) == number
    assert len(queue._callers) <= 2 * _CALLERS_KEPT


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 10), st.booleans()), max_size=60))
def test_every_item_is_served_once_and_the_count_is_right(events: list[tuple[str, float, bool]]) -> None:
    queue: FairQueue[int] = FairQueue()
    waiting: set[int] = set()
    for number, (caller, seconds, arrives) in enumerate(events):
        if arrives:
            queue.add(caller, number, due=seconds, arrived=number)
            waiting.add(number)
        else:
            taken = queue.take(seconds)
            assert (taken is None) == (not waiting)
            if taken is not None:
                waiting.remove(taken)
            queue.charge(caller, seconds - 5)
        assert len(queue) == len(waiting) == len(set(queue)) == sum(queue.waiting(name) for name in "abc")
    while (taken := queue.take(1.0)) is not None:
        waiting.remove(taken)
    assert not waiting


@given(st.lists(st.floats(0.01, 2), min_size=3, max_size=3), st.integers(20, 60))
def test_backlogged_callers_get_equal_time(costs: list[float], turns: int) -> None:
    queue: FairQueue[str] = FairQueue()
    for name in "abc":
        for _ in range(turns):
            queue.add(name, name, due=0.0, arrived=0.0)
    price = dict(zip("abc", costs, strict=True))
    used = dict.fromkeys("abc", 0.0)
    for _ in range(turns):
        name = queue.take(0.0)
        assert name is not None
        used[name] += price[name]
        queue.charge(name, price[name])
    assert max(used.values()) - min(used.values()) <= 2 * max(costs) + 1e-9
