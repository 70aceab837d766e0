"""Brings the frames of a video from their source to the engine's client, a little ahead of the steps.

So a video that goes on is ready at once. Frames that are there are handed over together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from adafocus.service.engine.client import EngineClient
from adafocus.service.engine.request import FrameSource, ListenedSource
from adafocus.service.engine.video import Video
from adafocus.service.frame_memory import SharedFrame
from adafocus.video.decoder import Frame


class Feeder(Protocol):
    """Feeds one video until it is closed."""

    def close(self) -> asyncio.Task[None] | None:
        """Feed no more. Returns a task that has been cancelled and still uses the source; None if there is none."""


def feeder_of(client: EngineClient, video: Video, source: FrameSource) -> Feeder:
    """Feed a video from a source, and go on with it whenever the video may want further frames.

    Args:
        client: is handed the frames.
        video: whose they are.
        source: of the frames; a task waits for its frames unless it is a `ListenedSource`.
    """
    feeder: ListeningFeeder | WaitingFeeder
    if hasattr(source, "ask"):
        feeder = ListeningFeeder(client, video, cast("ListenedSource", source))
    else:
        feeder = WaitingFeeder(client, video, source)
    video.feed = feeder.feed
    feeder.feed()
    return feeder


class ListeningFeeder:
    """Feeds a video from a source that says when it has a frame. The arguments are those of `feeder_of`."""

    def __init__(self, client: EngineClient, video: Video, source: ListenedSource) -> None:
        self._client = client
        self._video = video
        self._source = source
        self._drained = False
        source.listen(self.feed)

    def feed(self) -> None:
        """Hand over what is there, as far as it is wanted, and ask for what is not."""
        wanted = self._video.frames_wanted
        if wanted <= 0 or self._drained:
            return
        try:
            if _hand_over(self._client, self._video, self._source.next_ready, wanted) < wanted:
                self._drained = not self._source.ask()
        except Exception as error:  # noqa: BLE001 - whatever the source raises belongs to this video's caller
            self._client.cancel(self._video, error)
            return
        if self._drained:
            self._client.no_more_frames(self._video)

    def close(self) -> None:
        """See `Feeder`."""
        self._source.listen(_do_nothing)


class WaitingFeeder:
    """Feeds a video from any source: a task is started for the first frame that has to be waited for.

    The arguments are those of `feeder_of`.
    """

    def __init__(self, client: EngineClient, video: Video, source: FrameSource) -> None:
        self._client = client
        self._video = video
        self._source = source
        self._ready: Callable[[], Frame | SharedFrame | None] = getattr(source, "next_ready", lambda: None)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pulling = False

    def feed(self) -> None:
        """Hand over what is there, as far as it is wanted, and have pulled what is not."""
        video = self._video
        if not self._pulling:
            try:
                self._take_ready()
            except Exception as error:  # noqa: BLE001 - whatever the source raises belongs to this video's caller
                self._client.cancel(video, error)
        if self._task is not None:
            if video.complete or video.frames_wanted > 0:
                self._wake.set()
        elif video.frames_wanted > 0:
            self._task = asyncio.create_task(self._pull())

    def close(self) -> asyncio.Task[None] | None:
        """See `Feeder`."""
        if self._task is not None:
            self._task.cancel()
        return self._task

    async def _pull(self) -> None:
        """Wait for frames as long as the video takes any; an error of the source ends it."""
        client, video = self._client, self._video
        try:
            while not video.complete:
                self._take_ready()
                if video.frames_wanted <= 0:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                self._pulling = True
                frame = await self._source.next()
                self._pulling = False
                if frame is None:
                    client.no_more_frames(video)
                    return
                client.frame_ready(video, frame)
        except Exception as error:  # noqa: BLE001 - as above
            client.cancel(video, error)

    def _take_ready(self) -> None:
        _hand_over(self._client, self._video, self._ready, self._video.frames_wanted)


def _hand_over(client: EngineClient, video: Video, ready: Callable[[], Frame | SharedFrame | None], wanted: int) -> int:
    """Hand over the frames that are there, as many as are wanted; returns how many there were."""
    frames: list[Frame | SharedFrame] = []
    try:
        while len(frames) < wanted and (frame := ready()) is not None:
            frames.append(frame)
    finally:
        if frames:
            client.frames_ready(video, frames)
    return len(frames)


def _do_nothing() -> None:
    """Stand for a listener that is not needed any more."""
