"""Sends a response while the client may still be uploading, so that any client sees it.

Clients differ. curl shows an early response at once only if it says ``Connection: close``. httpx reads none before it
has sent everything, and loses it if the connection is closed meanwhile. A client that waits for ``100 Continue`` sends
nothing unless the server reads. So a refusal is decided before the first read, the whole response is sent at once, and
what the client still sends is then thrown away, up to a limit, before the connection ends.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import Message, Scope, Send

from adafocus.service.http.body import BodyReader
from adafocus.service.http.slow_clients import linger

KEEP_ALIVE_BYTES = 1 << 20
"""An unread rest of at most this size is read so that the connection can be used again; a longer one closes it."""

MIN_DISCARD_BYTES = 8 << 20
"""So much is read however small uploads have to be: a client whose connection is reset may lose its answer."""


async def send_response(response: Response, body: BodyReader, max_discard_bytes: int, scope: Scope, send: Send) -> None:
    """Send a response to a request, whether its body has been read or not.

    Args:
        response: what to send; gets ``Connection: close`` if the connection cannot be used again.
        body: of the request.
        max_discard_bytes: how much of the rest of the body is read and thrown away.
        scope: of the request.
        send: the ASGI server's.
    """
    if body.complete:
        await response(scope, _receive_nothing, send)
        return
    unread = None if body.declared_bytes is None else body.declared_bytes - body.received_bytes
    if body.waits_for_continue or unread is None or unread > KEEP_ALIVE_BYTES:
        response.headers["connection"] = "close"
    if body.waits_for_continue:  # nothing is on its way, and reading would ask for it
        await response(scope, _receive_nothing, send)
        return

    async def send_all_but_the_end(message: Message) -> None:
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        await send({**message, "more_body": True} if is_last else message)

    await response(scope, _receive_nothing, send_all_but_the_end)
    await linger(body.discard(max_discard_bytes))
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _receive_nothing() -> Message:
    """Stands for ``receive``: plain responses send and do not listen for a disconnect."""
    return {"type": "http.disconnect"}
