"""What one video may cost: processor seconds and decoded pixels, checked between packets while it is decoded."""

from __future__ import annotations

import time
from collections.abc import Callable

from adafocus.video.errors import Undecodable


class OverBudget(Undecodable):
    """The video has cost as much as permitted. Frames that were decoded before are good."""


class Budget:
    """The budget of one video.

    A few kilobytes can hold thousands of large pictures, so the size of a file says nothing about its cost.

    Args:
        max_seconds: processor seconds of this process.
        max_pixels: pixels of all pictures handed to the decoder.
        clock: processor seconds that this process has used.
    """

    def __init__(self, max_seconds: float, max_pixels: int, clock: Callable[[], float] = time.process_time) -> None:
        self._max_seconds = max_seconds
        self._max_pixels = max_pixels
        self._clock = clock
        self._started = clock()

    def check_pictures(self, pictures: int, pixels_of_one: int) -> None:
        """Compare the pixels that were decoded with the budget.

        Args:
            pictures: handed to the decoder so far.
            pixels_of_one: width × height of one of them.

        Raises:
            OverBudget: they are more.
        """
        if pictures * pixels_of_one > self._max_pixels:
            raise OverBudget(
                f"decoding the video takes more than max_decoded_pixels: {pictures} pictures of {pixels_of_one} "
                f"pixels are more than {self._max_pixels}"
            )

    def check_time(self) -> None:
        """Compare the processor time that was used with the budget. Asking the system for it costs a call.

        Raises:
            OverBudget: it is more.
        """
        if self._clock() - self._started > self._max_seconds:
            raise OverBudget(
                f"decoding the video takes more than max_decode_seconds: {self._max_seconds:g} seconds of processor "
                "time"
            )
