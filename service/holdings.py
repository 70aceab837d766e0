"""What one request holds until it has been answered, given back in the right order."""

from __future__ import annotations

from dataclasses import dataclass

from adafocus.service.decode.pool import end_session
from adafocus.service.decode.session import DecodeSession
from adafocus.service.engine.admission import Admission, Place
from adafocus.service.reception import Reception


@dataclass(slots=True)
class Holdings:
    """The place of a request, its upload and its decoder, as far as it has them.

    Attributes:
        admission: that the place is of.
        place: and the slot that it holds.
        early: whether it has started during its upload.
        upload: the video as it arrives.
        frames: the video as it is decoded.
    """

    admission: Admission
    place: Place
    early: bool = False
    upload: Reception | None = None
    frames: DecodeSession | None = None
    _gone: bool = False

    def pass_on(self) -> Holdings:
        """Return all of it as another one's, who has to give it back."""
        self._gone = True
        return Holdings(self.admission, self.place, self.early, self.upload, self.frames)

    async def give_back(self, error: BaseException | None = None) -> None:
        """Stop the decoder and the upload, and leave; does nothing if it was passed on.

        Args:
            error: why the request has no answer; None if it has one.

        Raises:
            Problem: the upload failed, which explains the error of the decoder.
        """
        if self._gone:
            return
        self._gone = True
        try:
            if self.frames is not None:
                await end_session(self.frames, error)
        finally:
            self.admission.leave_slot(self.place)
            if self.early:
                self.admission.end_early_start()
            try:
                if self.upload is not None:
                    await self.upload.close(error)
            finally:
                self.admission.leave(self.place)
