"""What a supervisor and its fronts tell each other over a socket that only they have, pickled as in `wire`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from adafocus.service.settings import Settings


@dataclass(frozen=True, slots=True)
class Start:
    """What a front is started with; descriptors are inherited under the same numbers.

    Attributes:
        settings: of this front: its share of decoders and slots.
        number: of this front, from 0.
        count: of all fronts.
        hub: socket of the engine.
        hub_slots: slots of each front at the engine.
        places: requests that all fronts may hold at once.
        listener: descriptor of the listening socket.
        series: descriptor of the metrics' memory.
        places_fd: descriptor of the places' memory.
        accounts: descriptor of the callers' memory.
        board: descriptor of the memory with the number of connections.
        late: it takes no connections before it can answer: one does that says that the service is not ready yet.
    """

    settings: Settings
    number: int
    count: int
    hub: Path
    hub_slots: int
    places: int
    listener: int
    series: int
    places_fd: int
    accounts: int
    board: int
    late: bool = False


class Order(Enum):
    """What a front is to do."""

    DRAIN = "drain"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Broken:
    """Why a front cannot serve."""

    reason: str


@dataclass(frozen=True, slots=True)
class Serving:
    """A front is ready."""
