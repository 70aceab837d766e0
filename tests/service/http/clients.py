"""A client at the level of ASGI messages, for tests without a connection."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from starlette.types import Message

from adafocus.service.http.body import BodyReader
from adafocus.service.http.head import Head
from adafocus.service.http.slow_clients import UploadLimits

DISCONNECT: Message = {"type": "http.disconnect"}
PATIENT = UploadLimits(silence_seconds=60)


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@dataclass
class Client:
    """Sends the messages that it was made with, then stays silent, and keeps what it receives."""

    messages: Sequence[Message] = ()
    headers: dict[str, str] = field(default_factory=lambda: {"transfer-encoding": "chunked"})
    asked: int = 0
    received: list[Message] = field(default_factory=list)

    async def receive(self) -> Message:
        self.asked += 1
        if self.asked > len(self.messages):
            await asyncio.Event().wait()
        return self.messages[self.asked - 1]

    async def send(self, message: Message) -> None:
        self.received.append(message)

    def body(self, limits: UploadLimits = PATIENT, on_complete: Callable[[], None] | None = None) -> BodyReader:
        head = Head([(name.encode(), value.encode()) for name, value in self.headers.items()])
        return BodyReader(self.receive, head, limits, on_complete)
