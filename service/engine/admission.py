"""Admission: who may come in and who runs next; all others are refused before their body is read.

A request holds a *place* from its first byte to its answer, and a *slot* while its video runs. The queue for slots is
bounded in number and in time: whoever would wait for longer than the limit is refused at once. Callers get equal
shares: a request of a caller that has less in the queue takes the place of the last one of the caller that has most.
A caller holds no more than an equal part of the slots while others are active. While more comes than can be served, the
newest is served first and whoever has waited too long is refused: in order, everybody would be answered late.

A place counts as work only while there is something to do. A body that has not arrived after a moment gives its place
up until it has; such uploads are limited in number, per caller and in all.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from adafocus.service.engine.active_callers import ACTIVE_SECONDS, ActiveCallers
from adafocus.service.engine.fair_queue import FairQueue
from adafocus.service.engine.queue_limits import Places, QueueLimits, Unlimited
from adafocus.service.engine.recent_use import RecentUse
from adafocus.service.engine.request import EngineObserver
from adafocus.service.engine.scheduler import PATIENCE_SECONDS
from adafocus.service.engine.uploads import Uploads
from adafocus.service.engine.waiting_time import WaitingTime
from adafocus.service.errors import Overloaded

Result = TypeVar("Result")

PROMPT_SECONDS = 0.25
"""How long a body may take before its request gives its place up until it has arrived."""

STANDING_SHARE = 0.5
"""The queue stands if somebody has waited for this share of the longest wait."""

LONGEST_RETRY_SECONDS = 60.0

LEAST_PART_OF_SHARE = 0.25
"""A caller that has used less than this part of an equal share of the processors is never put last."""

QUEUE_PRESSURE = 0.5
"""The pressure while requests wait for a slot, which a slow upload may hold."""


@dataclass(slots=True, eq=False)
class Place:
    """The place of one request.

    Attributes:
        caller: whose request it is.
        processor_seconds: that its video has used, once known; None: as long as it held its slot.
        slot_since: when it got the slot that it holds; None: it holds none.
    """

    caller: str
    processor_seconds: float | None = None
    counted: bool = False
    uploading: bool = False
    granted: asyncio.Future[None] | None = None
    arrived: float = 0.0
    slot_since: float | None = None
    charged_seconds: float = 0.0


@dataclass(slots=True)
class Admission:
    """Who may come in, and who runs next.

    Args:
        slots: videos that may run at once.
        max_queue: further requests that may hold a place.
        observer: told of the queue's depth and of the slots in use.
        clock: seconds on the clock that deadlines are given in.
        jitter: a number in 0..1 for each refusal.
        limits: further limits.
        shared: the places of all processes of the service; ``max_queue`` then holds for all of them together.
    """

    slots: int
    max_queue: int
    observer: EngineObserver
    clock: Callable[[], float]
    jitter: Callable[[], float] = random.random
    limits: QueueLimits = field(default_factory=QueueLimits)
    shared: Places = field(default_factory=Unlimited)
    places_taken: int = 0
    slots_taken: int = 0
    early_taken: int = 0
    lag_seconds: float = 0.0
    """How far the event loop is behind: a request has waited that long already when it is seen."""
    uploads: Uploads = field(init=False)
    waiting_time: WaitingTime = field(init=False)
    _queue: FairQueue[Place] = field(default_factory=FairQueue)
    _callers: ActiveCallers = field(default_factory=ActiveCallers)
    _use: RecentUse = field(default_factory=RecentUse)
    _timer: asyncio.TimerHandle | None = None
    _running: Counter[str] = field(default_factory=Counter)
    _places_of: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.uploads = Uploads(self.limits)
        self.waiting_time = WaitingTime(self.slots)

    @property
    def expected_wait_seconds(self) -> float:
        """How long a request that came now would wait for its slot."""
        ahead = self._ahead()
        return 0.0 if ahead < self.slots - self.slots_taken else self.waiting_time.seconds(ahead)

    @property
    def queue_limit(self) -> int:
        """How many may wait for a slot now."""
        left = self.limits.queue_seconds - self.lag_seconds
        return min(self.max_queue, self.waiting_time.most_waiting(left)) if left > 0 else 0

    @property
    def pressure(self) -> float:
        """How close the house is to refusing: 0 to 1."""
        return max(self.uploads.pressure, QUEUE_PRESSURE if len(self._queue) else 0.0)

    def refusal(self, caller: str) -> Overloaded | None:
        """Why a request of this caller would be refused now; None if it would not."""
        most = self.uploads.limit_reached(caller)
        if most is not None:
            return Overloaded(f"{most} uploads are arriving, the most allowed at once", retry_after=1.0)
        if self._has_room() or self._displaceable(caller) is not None:
            return None
        return self._overloaded()

    @contextmanager
    def place(self, caller: str = "") -> Iterator[Place]:
        """Hold a place for the length of a request, as `enter` and `leave` do.

        Raises:
            Overloaded: there is none; carries the seconds after which one should be free.
        """
        place = self.enter(caller)
        try:
            yield place
        finally:
            self.leave(place)

    def enter(self, caller: str = "") -> Place:
        """Take a place, which `leave` gives back; the request begins with its upload.

        Raises:
            Overloaded: there is none; carries the seconds after which one should be free.
        """
        refusal = self.refusal(caller)
        if refusal is not None:
            raise refusal
        place = Place(caller, uploading=True)
        self._count(place)
        self.uploads.begin(caller)
        return place

    def leave(self, place: Place) -> None:
        """Give back a place, and the slot that it holds. May be called again."""
        self.leave_slot(place)
        self.uploaded(place)
        self._give_up(place)

    def uploaded(self, place: Place) -> None:
        """Take note that a body has arrived, or never will. May be called again."""
        if place.uploading:
            place.uploading = False
            self.uploads.end(place.caller)

    async def while_uploading(self, place: Place, upload: Awaitable[Result]) -> Result:
        """Await an upload. A slow one gives its place up until it has arrived.

        Raises:
            Overloaded: it gave its place up, and now there is none.
        """
        timer = asyncio.get_running_loop().call_later(PROMPT_SECONDS, self._give_up, place)
        try:
            result = await upload
        finally:
            timer.cancel()
        if not place.counted:
            if not self._has_room() and self._displaceable(place.caller) is None:
                raise self._overloaded()
            self._count(place)
        return result

    @asynccontextmanager
    async def slot(self, deadline: float | None, place: Place | None = None) -> AsyncIterator[float]:
        """Wait for a slot, and hold it, as `take_slot` and `leave_slot` do; yields the seconds waited.

        Args:
            deadline: of the request, on the clock.
            place: that it holds; None where nobody competes for places.

        Raises:
            Overloaded: a caller with less in the queue has taken the place, or the wait has become too long.
        """
        place = place or Place("")
        waited_seconds = await self.take_slot(deadline, place)
        try:
            yield waited_seconds
        finally:
            self.leave_slot(place)

    async def take_slot(self, deadline: float | None, place: Place) -> float:
        """Wait for a slot, which the place then holds; returns the seconds waited.

        Args:
            deadline: of the request, on the clock.
            place: of the request.

        Raises:
            Overloaded: a caller with less in the queue has taken the place, or the wait has become too long.
        """
        caller = place.caller
        place.arrived = self.clock()
        self._callers.seen(caller, place.arrived)
        free = self.slots_taken < self.slots and not self._queue.waiting(caller)
        if (free and self._running[caller] < self._share()) or self._takes_reserve(caller):
            self._queue.charge(caller, self.waiting_time.seconds_per_video)
            self._take(caller, 1)
        else:
            await self._wait(place, deadline)
        place.slot_since = self.clock()
        place.charged_seconds = self.waiting_time.seconds_per_video
        return place.slot_since - place.arrived

    def leave_slot(self, place: Place) -> None:
        """Give back the slot of a place; does nothing if it holds none."""
        if place.slot_since is None:
            return
        ended = self.clock()
        held, place.slot_since = ended - place.slot_since, None
        self._callers.seen(place.caller, ended)
        self.waiting_time.held(held)
        self._queue.charge(place.caller, (place.processor_seconds or held) - place.charged_seconds)
        self._use.add(place.caller, place.processor_seconds or held, ended)
        self._take(place.caller, -1)
        self._grant()

    @contextmanager
    def early_start(self) -> Iterator[bool]:
        """Whether a video may take a slot while it is still being uploaded; holds that right for the block.

        A slow sender would hold a slot for as long as it sends. So only idle slots are given to unfinished uploads, and
        no more than half of them: those who have sent everything are never kept waiting by one who has not.
        """
        granted = self.start_early()
        try:
            yield granted
        finally:
            if granted:
                self.end_early_start()

    def start_early(self) -> bool:
        """Take the right of `early_start`, if it is granted; `end_early_start` gives it back."""
        idle = not len(self._queue) and self.slots_taken < self.slots
        granted = idle and self.early_taken < self.slots // 2
        self.early_taken += granted
        return granted

    def end_early_start(self) -> None:
        """Give back the right of `start_early`."""
        self.early_taken -= 1

    def others_are_active(self, caller: str) -> bool:
        """Whether other callers have asked for something lately."""
        return self._callers.others(caller, self.clock())

    def wants_more_than_its_share(self, caller: str) -> bool:
        """Whether a caller has more requests here than slots that it may hold, and has had a part of its share lately.

        Then its videos can wait until others have left some of the processors. They do not wait for ever: a caller that
        has had too little of them is as good as any other.
        """
        now = self.clock()
        if not self._places_of[caller] > self._callers.share(self.slots, now) < self.slots:
            return False
        return self._use.part(caller, now) * len(self._callers) > LEAST_PART_OF_SHARE

    def slots_in_foreground(self) -> int:
        """Slots that are held by callers which ask for no more than their share."""
        return sum(count for name, count in self._running.items() if not self.wants_more_than_its_share(name))

    def retry_after_seconds(self) -> float:
        """Seconds until there should be a place, plus up to as much again by chance.

        Without the chance all who were turned away together would come back together.
        """
        surplus = max(0.0, self.expected_wait_seconds - min(self.limits.queue_seconds, LONGEST_RETRY_SECONDS))
        until_free = max(surplus, self.waiting_time.seconds(0))
        return min(LONGEST_RETRY_SECONDS, until_free * (1.0 + self.jitter()))

    def _ahead(self) -> int:
        """Places that count and hold no slot."""
        return self.places_taken - self.slots_taken

    def _has_room(self) -> bool:
        waiting = self._ahead() - (self.slots - self.slots_taken)  # after all slots are taken
        if waiting < 0:
            return True
        return waiting < self.queue_limit

    def _displaceable(self, caller: str) -> str | None:
        """The caller whose last request in the queue has to leave for one of this caller's; None if none has to."""
        longest = self._queue.longest()
        if longest is None or longest == caller or not self.max_queue:
            return None
        return longest if self._queue.waiting(longest) > self._places_of[caller] + 1 else None

    def _overloaded(self) -> Overloaded:
        seconds = self.retry_after_seconds()
        return Overloaded(
            f"{self._ahead()} requests are waiting for {self.slots} slots, the most allowed now", retry_after=seconds
        )

    def _count(self, place: Place) -> None:
        """Count a place, for which another request may have to leave the queue.

        Raises:
            Overloaded: other processes of the service have taken all places.
        """
        if not self._has_room():
            longest = self._displaceable(place.caller)
            leaves = None if longest is None else self._queue.take_last(longest)
            if leaves is not None:
                self._refuse(leaves)
        if not self.shared.take():
            raise Overloaded(retry_after=self.retry_after_seconds())
        place.counted = True
        self.places_taken += 1
        self._places_of[place.caller] += 1

    def _refuse(self, place: Place) -> None:
        """Refuse a request that waits and has been taken out of the queue."""
        if place.granted is not None and not place.granted.done():
            place.granted.set_exception(self._overloaded())
        self._give_up(place)

    def _give_up(self, place: Place) -> None:
        if place.counted:
            place.counted = False
            self.shared.give_back()
            self.places_taken -= 1
            _lower(self._places_of, place.caller)

    def _takes_reserve(self, caller: str) -> bool:
        most = self.slots + self.limits.reserve
        return self.limits.reserve > 0 and not self._running[caller] and self.slots <= self.slots_taken < most

    async def _wait(self, place: Place, deadline: float | None) -> None:
        due = place.arrived + PATIENCE_SECONDS
        place.granted = asyncio.get_running_loop().create_future()
        self._queue.add(place.caller, place, due=due if deadline is None else min(due, deadline), arrived=place.arrived)
        self.observer.queue_depth(len(self._queue))
        if self.slots_taken < self.slots:
            self._grant_later()
        try:
            await place.granted
        except asyncio.CancelledError:
            if self._queue.discard(place.caller, place):
                self.observer.queue_depth(len(self._queue))
            elif not place.granted.cancelled() and place.granted.exception() is None:
                self._take(place.caller, -1)  # granted in the very turn in which the caller left: pass it on
                self._grant()
            raise

    def _grant(self) -> None:
        while len(self._queue) and self.slots_taken < self.slots:
            stands = self._drop_late()
            place = self._queue.take(self.waiting_time.seconds_per_video, among=self._below_share(), newest=stands)
            if place is None:
                self._grant_later()
                break
            if place.granted is not None and not place.granted.done():
                self._take(place.caller, 1)
                place.granted.set_result(None)
        self.observer.queue_depth(len(self._queue))

    def _share(self) -> int:
        """Slots that one caller may hold now: whoever comes next must not find all of them taken by the same one."""
        return self._callers.share(self.slots, self.clock())

    def _below_share(self) -> set[str] | None:
        """The callers that may have another slot; None if all may."""
        share = self._share()
        if share >= self.slots:
            return None
        return {caller for caller in self._queue.callers() if self._running[caller] < share}

    def _grant_later(self) -> None:
        """Look again when a caller may have become inactive: free slots are then for those who wait."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(ACTIVE_SECONDS, self._grant_again)

    def _grant_again(self) -> None:
        self._timer = None
        self._grant()

    def _drop_late(self) -> bool:
        """Refuse those who have waited for too long, if others wait who can still be served in time.

        Returns:
            Whether the queue stands: it does not empty, so whoever is served in order is served late. Then the newest
            is served first, so that those who are served at all are served soon.
        """
        now = self.clock()
        longest = max(self.limits.queue_seconds - self.lag_seconds, self.waiting_time.seconds_per_video)
        waited = now - self._queue.first_arrival()
        if waited > longest:
            for place in self._queue.take_older(now - longest):
                self._refuse(place)
        return waited > STANDING_SHARE * longest

    def _take(self, caller: str, count: int) -> None:
        self.slots_taken += count
        if count > 0:
            self._running[caller] += count
        else:
            _lower(self._running, caller)
        self.observer.slots_active(self.slots_taken)


def _lower(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if counts[name] <= 0:
        del counts[name]
