"""The frames that workers have delivered of one video, and the memory in which they lie."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from adafocus.service.decode.frame_arena import Lease
from adafocus.service.decode.messages import FrameReady, ProtocolError
from adafocus.service.decode.shared_frames import SharedFrames


@dataclass(frozen=True, slots=True, eq=False)
class Arrived:
    """A frame that a worker has delivered, and the memory in which it lies."""

    frame: FrameReady
    lease: Lease


class Delivery:
    """Keeps the frames of one video in order, though a second worker may begin again with the first of them.

    Args:
        planned: number of frames wanted.
        on_read: called with each segment that was given to `begin`, when its frames have been read.
    """

    def __init__(self, planned: int, on_read: Callable[[SharedFrames], None]) -> None:
        self.planned = planned
        self.waiting: deque[Arrived] = deque()
        """Frames that the consumer has not taken."""
        self._on_read = on_read
        self._leases: list[Lease] = []  # the last one is that of the present worker
        self._slots = 0  # that the present worker may use
        self._last_position = -1  # that was delivered
        self._sent_position = -1  # that the present worker has sent

    @property
    def is_full(self) -> bool:
        """Whether the present worker has no slot to write into."""
        return bool(self._leases) and len(self._leases[-1].held) >= self._slots

    @property
    def may_be_over(self) -> bool:
        """Whether the present worker has sent the last frame that is wanted."""
        return self._sent_position >= self.planned - 1

    def begin(self, frames: SharedFrames, slots: int) -> None:
        """A worker writes into these frames from now on, and may use that many slots of them."""
        self._leases.append(Lease(frames, self._on_read))
        self._slots = slots
        self._sent_position = -1

    def restart(self) -> None:
        """Deliver the video again from its first frame; all frames have been dropped."""
        self._last_position = -1
        self._leases.clear()

    def take(self, reply: FrameReady, *, wanted: bool) -> Arrived | None:
        """Take in a frame of the present worker; returns it if a worker before this one has delivered it.

        Args:
            reply: what the worker says of it.
            wanted: whether anybody wants further frames; without, the frame is dropped.

        Raises:
            ProtocolError: the worker may not send this frame now.
        """
        lease = self._leases[-1]
        if reply.slot in lease.held:
            raise ProtocolError("the worker sent a frame in a slot that was not free")
        if not self._sent_position < reply.position < self.planned:
            raise ProtocolError(f"the worker sent a frame for position {reply.position}, which was not due")
        self._sent_position = reply.position
        if reply.slot >= lease.frames.slots:
            raise ProtocolError(f"slot must be 0..{lease.frames.slots - 1}, got {reply.slot}")
        lease.held.add(reply.slot)
        if not wanted:
            return None
        arrived = Arrived(reply, lease)
        if reply.position <= self._last_position:
            return arrived
        self._last_position = reply.position
        lease.unread.add(reply.slot)
        self.waiting.append(arrived)
        return None

    def spare_slot(self) -> int | None:
        """A further slot for a worker whose slots all hold frames; None if it has a free one, or there is no memory."""
        if not self.is_full or self._slots >= self._leases[-1].frames.slots:
            return None
        self._slots += 1
        return self._slots - 1

    def read(self, arrived: Arrived) -> bool:
        """Record that a frame has been read; returns whether its slot was held for the present worker."""
        arrived.lease.read(arrived.frame.slot)
        return bool(self._leases) and arrived.lease is self._leases[-1] and arrived.frame.slot in arrived.lease.held

    def drop(self) -> None:
        """Forget the frames that the consumer has not taken."""
        while self.waiting:
            arrived = self.waiting.popleft()
            arrived.lease.read(arrived.frame.slot)

    def written(self) -> None:
        """Nobody writes into the memory any more."""
        for lease in self._leases:
            lease.written()
