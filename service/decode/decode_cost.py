"""What decoding one video has cost so far, over all workers that had it."""

from __future__ import annotations

from dataclasses import dataclass

from adafocus.service.decode.messages import Done, FrameReady, Opened, ProtocolError


@dataclass(slots=True)
class DecodeCost:
    """The cost as the workers tell it; final once the session is closed.

    Attributes:
        frames: handed to the decoder.
        seconds: of wall time spent opening, decoding and resizing, without waiting.
        cpu_seconds: of processor time.
    """

    frames: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    _earlier: tuple[int, float, float] = 0, 0.0, 0.0

    def next_worker(self) -> None:
        """Add what the next worker tells to what there is: each worker counts from zero."""
        self._earlier = self.frames, self.seconds, self.cpu_seconds

    def take(self, reply: Opened | FrameReady | Done) -> None:
        """Take the counts of a message of the present worker.

        Raises:
            ProtocolError: one of them is lower than before.
        """
        frames, seconds, cpu_seconds = self._earlier
        frames += reply.frames_decoded
        seconds += reply.seconds
        cpu_seconds += reply.cpu_seconds
        if frames < self.frames or seconds < self.seconds or cpu_seconds < self.cpu_seconds:
            raise ProtocolError("the worker reported a lower cost than before")
        self.frames, self.seconds, self.cpu_seconds = frames, seconds, cpu_seconds
