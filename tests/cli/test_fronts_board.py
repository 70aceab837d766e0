"""Fronts share connections evenly."""

import os

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from adafocus.cli.fronts.board import Board, Spreading
from adafocus.cli.fronts.supervisor import share_of
from tests.service.server import make_settings


def test_a_front_leaves_the_next_connection_to_one_that_has_fewer_and_takes_any() -> None:
    fd = Board.create(3)
    first, second = (Board(fd, 3, row) for row in range(2))
    first.publish(4)
    assert not first.yields_next(4)  # nobody else takes any
    assert not first.is_crowded(4)
    second.publish(1)
    assert first.yields_next(4)
    assert not second.yields_next(1)
    assert not first.is_crowded(4)
    assert first.is_crowded(5)
    first.withdraw(1)
    assert not first.yields_next(4)
    os.close(fd)


@pytest.mark.parametrize("crowded", [True, False])
async def test_a_crowded_front_closes_a_connection_with_its_response(crowded: bool) -> None:
    app = FastAPI()

    @app.get("/")
    async def there() -> PlainTextResponse:
        return PlainTextResponse("there")

    transport = httpx.ASGITransport(Spreading(app, lambda: crowded))
    async with httpx.AsyncClient(transport=transport, base_url="http://h") as client:
        answer = await client.get("/")
    assert answer.text == "there"
    assert (answer.headers.get("connection") == "close") is crowded


def test_decoders_and_slots_are_shared_out_and_every_front_has_some(tmp_path: object) -> None:
    settings = make_settings(tmp_path, decode_workers=7, slots=2)  # type: ignore[arg-type]
    shares = [share_of(settings, number, 3) for number in range(3)]
    assert [share.decode_workers for share in shares] == [3, 2, 2]
    assert [share.slots for share in shares] == [1, 1, 1]
