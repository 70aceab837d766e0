"""Requests of all kinds, from several callers: good clips, damaged ones, costly ones, and what is refused."""

from __future__ import annotations

import base64
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import httpx

from benchmarks.service_process import SAMPLES
from tests.media.named import NAMES, named
from tests.torture.costly import costly_video
from tests.torture.mutants import mutant

EXITS = ("", "?exit=full", "?exit=accurate", "?exit=balanced", "?exit=fast", "?max_gflops=0.5", "?trace=true")
REFUSED = ("?exit=none", "?top_k=0", "?deadline_ms=-1", "?unknown=1")
LIMITS = httpx.Limits(keepalive_expiry=1.0)
"""The service closes an idle connection after five seconds; whoever sends at that moment gets no answer."""

ESCAPED_JSON = b'{"inputs":[{"name":"video","shape":[1],"datatype":"BYTES","data":["' + b"\\u0041" * 20_000 + b'"]}]}'
"""A video in JSON all of whose characters are escaped, which is refused."""


class BrokenOffError(Exception):
    """An upload that its sender gives up."""


class Mix:
    """Sends requests of all kinds, and counts the answers.

    Args:
        clients: one for each caller.
        chance: decides what is sent next, and by whom.
        model: the name of the model that the service serves.
    """

    def __init__(self, clients: Sequence[httpx.AsyncClient], chance: random.Random, model: str) -> None:
        self.answers: Counter[str] = Counter()
        """How many answers there were, by what was sent and the status."""
        self._clients = clients
        self._chance = chance
        self._path = f"/v2/models/{model}/infer"
        self._good = [path.read_bytes() for path in SAMPLES]
        self._seeds = [*self._good, *(named(name) for name in NAMES)]
        self._costly = costly_video(60, 5120, 2880)
        self._kinds: dict[Callable[[httpx.AsyncClient], Awaitable[httpx.Response]], float] = {
            self._clip: 0.50,
            self._stream: 0.12,
            self._inference: 0.06,
            self._binary_inference: 0.06,
            self._damaged: 0.15,
            self._refused: 0.05,
            self._broken_off: 0.045,
            self._large: 0.01,
            self._expensive: 0.005,
        }

    async def send(self) -> str:
        """Send one request of one of the callers; returns its status, or the name of the error."""
        client = self._chance.choice(self._clients)
        kind = self._chance.choices([*self._kinds], [*self._kinds.values()])[0]
        began = time.monotonic()
        try:
            status = str((await kind(client)).status_code)
        except BrokenOffError:
            status = "given up"
        except httpx.HTTPError as error:
            status = type(error).__name__
            print(f"{kind.__name__.strip('_')}: {error!r} after {time.monotonic() - began:.2f} s", flush=True)
        self.answers[f"{kind.__name__.strip('_')} {status}"] += 1
        return status

    async def _clip(self, client: httpx.AsyncClient) -> httpx.Response:
        path = "/classify" + self._chance.choice(EXITS)
        if self._chance.random() < 0.5:
            return await client.post(path, content=self._a_clip())
        return await client.post(path, files={"video": ("clip.mp4", self._a_clip())})

    async def _stream(self, client: httpx.AsyncClient) -> httpx.Response:
        frames = self._chance.choice(("", "&frames=true"))
        return await client.post(f"/classify?stream=true{frames}", content=self._a_clip())

    async def _inference(self, client: httpx.AsyncClient) -> httpx.Response:
        data = base64.b64encode(self._a_clip()).decode()
        return await client.post(self._path, json={"inputs": [_tensor() | {"data": [data]}]})

    async def _binary_inference(self, client: httpx.AsyncClient) -> httpx.Response:
        clip = self._a_clip()
        tensor = _tensor() | {"parameters": {"binary_data_size": 4 + len(clip)}}
        head = json.dumps({"inputs": [tensor]}).encode()
        content = head + len(clip).to_bytes(4, "little") + clip
        return await client.post(
            self._path, content=content, headers={"Inference-Header-Content-Length": str(len(head))}
        )

    async def _damaged(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/classify", content=mutant(self._seeds, self._chance))

    async def _refused(self, client: httpx.AsyncClient) -> httpx.Response:
        match self._chance.randrange(4):
            case 0:
                return await client.post("/classify" + self._chance.choice(REFUSED), content=self._a_clip())
            case 1:
                return await client.post("/classify", content=b"")
            case 2:
                return await client.post(self._path, content=b'{"inputs":' * self._chance.randrange(1, 5000))
            case _:
                return await client.post("/classify", content=b"not a video " * self._chance.randrange(1, 5000))

    async def _broken_off(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/classify", content=self._first_part(), headers={"content-length": "30000"})

    async def _large(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(self._path, content=ESCAPED_JSON)

    async def _expensive(self, client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/classify", content=self._costly)

    async def _first_part(self) -> AsyncIterator[bytes]:
        yield self._good[0][: self._chance.randrange(1, 15_000)]
        raise BrokenOffError

    def _a_clip(self) -> bytes:
        return self._chance.choice(self._good)


def _tensor() -> dict[str, object]:
    return {"name": "video", "shape": [1], "datatype": "BYTES"}


@asynccontextmanager
async def mixed_load(url: str, callers: int, seed: int) -> AsyncIterator[Mix]:
    """The mix for a service, each of whose callers has a loopback address of its own, for the length of the block."""
    async with AsyncExitStack() as held:
        clients = [
            await held.enter_async_context(
                httpx.AsyncClient(
                    base_url=url,
                    timeout=120,
                    transport=httpx.AsyncHTTPTransport(local_address=f"127.0.0.{number + 2}", limits=LIMITS),
                )
            )
            for number in range(callers)
        ]
        model = (await clients[0].get("/model")).json()["name"]
        yield Mix(clients, random.Random(seed), model)
