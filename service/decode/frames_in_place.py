"""A session's frames where its worker wrote them, for a consumer that says when it has read each of them."""

from __future__ import annotations

from functools import partial

from adafocus.service.decode.messages import FrameReady
from adafocus.service.decode.session import DecodeSession
from adafocus.service.frame_memory import SharedFrame
from adafocus.video.decoder import Frame


class FramesInPlace:
    """The frames of one video, pulled one by one and not copied: what the engine reads.

    A frame's slot goes back to the worker once the frame is released and another one is asked for: nothing is decoded
    before it is wanted. The worker has no other job while a frame that was handed over has not been released.

    Args:
        session: used only by this object.
    """

    def __init__(self, session: DecodeSession) -> None:
        self._session = session
        self._unread: set[int] = set()
        self._read: list[int] = []
        self._asking = False
        self._segment = session.read_in_place(lambda: bool(self._unread)).segment

    async def next(self) -> SharedFrame | Frame | None:
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

    def next_ready(self) -> SharedFrame | Frame | None:
        """The next frame if it has arrived."""
        self._return_read()
        return self._handed(self._session.next_arrived())

    def _handed(self, ready: FrameReady | Frame | None) -> SharedFrame | Frame | None:
        if not isinstance(ready, FrameReady):
            return ready
        self._unread.add(ready.slot)
        release = partial(self._release, ready.slot)
        return SharedFrame(ready.position, ready.index, ready.time_s, self._segment, ready.slot, release)

    def _release(self, slot: int) -> None:
        self._unread.discard(slot)
        self._read.append(slot)
        if self._asking:
            self._return_read()
        if not self._unread:
            self._session.pass_on()

    def _return_read(self) -> None:
        for slot in self._read:
            self._session.give_back(slot)
        self._read.clear()
