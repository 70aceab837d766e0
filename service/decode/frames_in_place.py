"""A session's frames where its worker wrote them, for a consumer that says when it has read each of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from adafocus.service.decode.delivery import Arrived
from adafocus.service.decode.session import DecodeSession
from adafocus.service.frame_memory import SharedFrame


class FramesInPlace:
    """The frames of one video, pulled one by one and not copied: what the engine reads.

    A frame's slot goes back to the worker once the frame is released and another one is asked for: nothing is decoded
    before it is wanted. If one is asked for while the worker's slots all hold frames, it gets a further slot, as long
    as there are any: it need not wait until the engine has read a frame. The memory is used for another video when all
    frames that were handed over have been released.

    Args:
        session: used only by this object.
    """

    def __init__(self, session: DecodeSession) -> None:
        self._session = session
        self._read: list[Arrived] = []
        self._asking = False

    async def next(self) -> SharedFrame | None:
        """The next frame that could be decoded, in visiting order; None when there is none left.

        Raises:
            Problem: the video, or its upload, failed before a single frame; or the worker did.
        """
        self._return_read()
        self._asking = True
        try:
            return self._handed(await self._session.next_where_it_lies())
        finally:
            self._asking = False

    def next_ready(self) -> SharedFrame | None:
        """The next frame if it has arrived."""
        if self._read:
            self._return_read()
        self._asking = False
        return self._handed(self._session.next_arrived())

    def listen(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called whenever a frame has arrived or none will come any more."""
        self._session.listen(changed)

    def ask(self) -> bool:
        """Have the next frame brought; False if none is left.

        Raises:
            Problem: as `next`.
        """
        self._asking = self._session.has_more()
        if self._asking:
            self._session.spare_place()
        return self._asking

    async def rewind(self) -> None:
        """Start again with the first frame; all that were handed over have been released.

        Raises:
            Problem: the pool is closed.
        """
        self._read.clear()
        await self._session.rewind()

    def _handed(self, arrived: Arrived | None) -> SharedFrame | None:
        if arrived is None:
            return None
        frame, frames = arrived.frame, arrived.lease.frames
        if frames.crop != self._session.side:
            raise ValueError(f"frames must have {frames.crop} pixels a side, as their memory, got {self._session.side}")
        release = partial(self._release, arrived)
        return SharedFrame(frame.position, frame.index, frame.time_s, frames.segment, frame.slot, release)

    def _release(self, arrived: Arrived) -> None:
        arrived.lease.read(arrived.frame.slot)
        self._read.append(arrived)
        if self._asking:
            self._return_read()

    def _return_read(self) -> None:
        for arrived in self._read:
            self._session.give_back(arrived)
        self._read.clear()
