"""How many workers a video may end before it is refused, and what its client is told of the last one's error."""

from __future__ import annotations

from dataclasses import dataclass

from adafocus.service.decode.ipc import FAULT, MEMORY_REFUSED, OUT_OF_MEMORY
from adafocus.service.decode.messages import Done, printable
from adafocus.service.errors import Internal, Problem, Undecodable, problem_from_code

MAX_WORKERS = 4
"""Workers that a video may end by a fault, one after the other. What is the video's doing would end a fifth too."""

MAX_KILLED_WORKERS = 16
"""Workers that may end in any way. Whoever kills them from outside may hit the one that takes over as well, and the
next; or memory is short, and then the video may be the reason."""

MAX_STUCK_WORKERS = 2
"""The same for workers that hang, because each of them takes long to be found out."""


@dataclass(slots=True)
class WorkerLosses:
    """The workers that one video has had.

    Attributes:
        workers: so many have had the job; all of them have ended once the present one has.
        faults: so many have ended by a fault of their own.
    """

    workers: int = 0
    faults: int = 0

    def permit_another(self, *, stuck: bool) -> bool:
        """Return whether another worker may have the job after the present one has ended, or is stuck."""
        most = MAX_STUCK_WORKERS if stuck else MAX_KILLED_WORKERS
        return self.workers < most and self.faults < MAX_WORKERS


def problem_of(done: Done) -> Problem | None:
    """Return the problem for a worker's error, None if there is none. The details of a bug are not shown to clients."""
    if done.error is None:
        return None
    if done.error.code in (OUT_OF_MEMORY, MEMORY_REFUSED):
        return Undecodable("decoding the video needs more memory than decode_memory_bytes allows")
    if done.error.code == FAULT:
        return Internal()
    return problem_from_code(done.error.code, printable(done.error.detail))
