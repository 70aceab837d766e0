"""The session's side of the protocol, against a fake worker that sends the messages of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from adafocus.service.decode.messages import (
    Done,
    Failure,
    FrameReady,
    Info,
    Need,
    Opened,
    ProtocolError,
    Ready,
    Reply,
    Sandbox,
)
from adafocus.service.decode.pool import DecodeSession, WorkerTimeouts
from adafocus.service.decode.process import WorkerGoneError
from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.decode.spool import Spool
from adafocus.service.decode.watchdog import Verdict
from adafocus.service.errors import Internal, TooLarge, TooLong, Undecodable
from tests.service.decode.factory import job
from tests.video.clips import GEOMETRY

OPENED = Opened(
    type="opened",
    info=Info(container="mp4", codec="h264", width=64, height=64, fps=25.0, duration_s=1.6, frames=40, rotation=0),
    frames_decoded=1,
    seconds=0.1,
)
READY = Ready(
    type="ready",
    sandbox=Sandbox(no_new_privileges=True, landlock=0, seccomp=True, memory_limit_bytes=None, missing=[]),
)


def frame(slot: int, position: int, *, decoded: int = 5, seconds: float = 0.2) -> FrameReady:
    return FrameReady(
        type="frame", slot=slot, position=position, index=position, time_s=None, frames_decoded=decoded, seconds=seconds
    )


def done(code: str | None = None, detail: str = "") -> Done:
    error = None if code is None else Failure(code=code, detail=detail)
    return Done(type="done", frames_decoded=9, seconds=0.3, error=error)


@dataclass
class FakeWorker:
    """Remembers what it is told."""

    frames: SharedFrames
    told: list[str] = field(default_factory=list)
    gone: bool = False

    def send(self, message: Mapping[str, object], fd: int | None = None) -> None:
        if self.gone:
            raise WorkerGoneError
        words = [str(message[name]) for name in ("type", "slot", "size", "complete") if name in message]
        self.told.append(" ".join(words))

    def cpu_seconds(self) -> float:
        return 0.0


@dataclass
class Scene:
    """A session that has been given to a worker, and what came of it."""

    session: DecodeSession
    worker: FakeWorker
    spool: Spool
    ends: list[Done]
    hangs: list[Verdict]

    def hear(self, *replies: Reply) -> None:
        for reply in replies:
            self.session.hear(reply)


@pytest.fixture
async def scene() -> Iterator[Scene]:  # type: ignore[misc]  # an async generator, which pytest-asyncio understands
    frames = SharedFrames.create(slots=2, crop=GEOMETRY.crop)
    for slot in range(2):
        frames.put(slot, np.full((GEOMETRY.crop, GEOMETRY.crop, 3), slot, dtype=np.uint8))
    worker, ends, hangs = FakeWorker(frames), [], []
    with Spool() as spool:
        spool.write(b"0123456789")
        session = DecodeSession(
            worker, spool, job(), WorkerTimeouts(stall_seconds=30), on_end=ends.append, on_hang=hangs.append
        )
        session.start()
        yield Scene(session, worker, spool, ends, hangs)  # type: ignore[misc]
        session.fail(Internal())
    frames.close()


async def test_frames_come_in_order_and_slots_go_back_one_by_one(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0), frame(1, 2))
    await scene.session.opened()
    assert (scene.session.info.codec, scene.session.planned) == ("h264", 16)
    assert scene.worker.told == ["job 10 False"]
    first = await scene.session.next()
    assert first is not None
    assert (first.position, int(first.pixels.max())) == (0, 0)
    assert scene.worker.told == ["job 10 False"], "the slot is kept until the next frame is asked for"
    second = await scene.session.next()
    assert scene.worker.told[-1] == "free 0"
    scene.hear(frame(0, 3), done())
    rest = [second, *[await scene.session.next() for _ in range(3)]]
    assert [None if got is None else got.position for got in rest] == [2, 3, None, None]
    assert scene.worker.told[-1] == "free 0", "a worker that has ended needs no slots"
    assert (scene.session.frames_decoded, scene.session.decode_seconds) == (9, 0.3)
    assert len(scene.ends) == 1


async def test_closing_waits_for_a_worker_only_while_it_may_be_working(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0, decoded=5), frame(1, 2, decoded=7))
    assert await scene.session.next() is not None
    await scene.session.close()  # both slots are held here: the worker waits, and has said what it cost
    assert scene.worker.told[-1] == "close"
    assert (scene.session.frames_decoded, scene.ends) == (7, [])
    scene.hear(done())
    assert len(scene.ends) == 1


async def test_waiting_for_a_frame_may_be_cancelled_and_none_is_lost(scene: Scene) -> None:
    scene.hear(OPENED)
    waiting = asyncio.create_task(scene.session.next())
    await asyncio.sleep(0)
    scene.hear(frame(0, 0))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    got = await scene.session.next()
    assert got is not None
    assert got.position == 0


@pytest.mark.parametrize(
    "replies",
    [
        (frame(0, 0),),
        (OPENED, OPENED),
        (OPENED, frame(0, 0), frame(0, 1)),
        (OPENED, frame(2, 0)),
        (OPENED, frame(0, 16)),
        (OPENED, frame(0, 1), frame(1, 1)),
        (OPENED, frame(0, 1), frame(1, 0)),
        (OPENED, frame(0, 0), frame(1, 1, decoded=4)),
        (OPENED, frame(0, 0), frame(1, 1, seconds=0.1)),
        (OPENED, READY),
        (OPENED, Need(type="need", size=5)),
        (OPENED, Need(type="need", size=50), Need(type="need", size=60)),
        (OPENED, done(), done()),
        (OPENED, done(), frame(0, 0)),
    ],
)
async def test_what_may_not_be_said_now_breaks_the_protocol(scene: Scene, replies: tuple[Reply, ...]) -> None:
    scene.hear(*replies[:-1])
    with pytest.raises(ProtocolError):
        scene.hear(replies[-1])


async def test_closing_tells_the_worker_once_and_waits_for_it(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0))
    closing = asyncio.create_task(scene.session.close())
    await asyncio.sleep(0)
    assert not closing.done()
    assert scene.worker.told[-1] == "close"
    scene.hear(frame(1, 1))  # it was under way
    scene.hear(done())
    await closing
    await scene.session.close()
    assert scene.worker.told.count("close") == 1
    assert await scene.session.next() is None
    assert scene.session.frames_decoded == 9


async def test_closing_after_the_end_says_nothing(scene: Scene) -> None:
    scene.hear(OPENED, done())
    await scene.session.close()
    assert "close" not in scene.worker.told


@pytest.mark.parametrize(
    ("ended", "kind", "words"),
    [
        (done("too_long", "the video is 7200 s long"), TooLong, "7200 s"),
        (done("undecodable", "line\nbreak"), Undecodable, "line break"),
        (done("memory"), Undecodable, "decode_memory_bytes"),
        (done("internal", "Traceback: secret"), Internal, "request id"),
        (done("no_such_code", "whatever"), Internal, "request id"),
    ],
)
async def test_a_workers_error_becomes_the_callers(
    scene: Scene, ended: Done, kind: type[Exception], words: str
) -> None:
    scene.hear(ended)
    with pytest.raises(kind, match=words):
        await scene.session.opened()


async def test_a_job_that_ends_without_a_word_is_a_fault(scene: Scene) -> None:
    scene.hear(done())
    with pytest.raises(Internal):
        await scene.session.opened()
    with pytest.raises(ValueError, match="not been opened"):
        _ = scene.session.info


async def test_what_came_before_an_error_may_still_be_taken(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0))
    scene.session.fail(Undecodable("the decoder crashed"))
    got = await scene.session.next()
    assert got is not None
    with pytest.raises(Undecodable):
        await scene.session.next()


async def test_a_need_is_met_when_the_bytes_are_there(scene: Scene) -> None:
    scene.hear(Need(type="need", size=25))
    scene.spool.write(b"x" * 10)
    assert scene.worker.told == ["job 10 False"]
    scene.spool.write(b"x" * 10)
    assert scene.worker.told[-1] == "more 30 False"
    scene.hear(Need(type="need", size=None))
    scene.spool.write(b"x" * 10)
    assert scene.worker.told[-1] == "more 30 False"
    scene.spool.finish()
    assert scene.worker.told[-1] == "more 40 True"
    with pytest.raises(ProtocolError):
        scene.hear(Need(type="need", size=None))


async def test_an_upload_that_fails_ends_the_session_with_its_error(scene: Scene) -> None:
    scene.hear(Need(type="need", size=None))
    opening = asyncio.create_task(scene.session.opened())
    await asyncio.sleep(0)
    scene.spool.fail(TooLarge("too large"))
    assert scene.worker.told[-1] == "close"
    scene.hear(done())
    with pytest.raises(TooLarge):
        await opening


async def test_a_worker_that_was_gone_already_is_told_of(scene: Scene) -> None:
    scene.worker.gone = True
    other = DecodeSession(
        scene.worker, scene.spool, job(), WorkerTimeouts(), on_end=scene.ends.append, on_hang=scene.hangs.append
    )
    with pytest.raises(WorkerGoneError):
        other.start()
    scene.hear(OPENED, frame(0, 0))
    assert await scene.session.next() is not None, "a slot that cannot be given back does no harm"


class TestPatience:
    async def judged(self, scene: Scene, *replies: Reply, close: bool = False) -> DecodeSession:
        """A session of little patience that has heard these."""
        session = DecodeSession(
            scene.worker,
            scene.spool,
            job(),
            WorkerTimeouts(stall_seconds=0.01, close_seconds=0.02),
            on_end=scene.ends.append,
            on_hang=scene.hangs.append,
        )
        session.start()
        for reply in replies:
            session.hear(reply)
        if close:
            session.abandon()
        return session

    async def test_silence_is_noticed_where_it_is_the_workers_turn(self, scene: Scene) -> None:
        session = await self.judged(scene, OPENED, frame(0, 0))
        await self.until_hung(scene)
        assert scene.hangs == ["silent"]
        session.fail(Undecodable(""))

    async def test_a_worker_that_waits_is_not_blamed(self, scene: Scene) -> None:
        full = await self.judged(scene, OPENED, frame(0, 0), frame(1, 1))
        hungry = await self.judged(scene, Need(type="need", size=None))
        blamed = await self.judged(scene, OPENED)  # of the same age, so its verdict comes no earlier than theirs
        await self.until_hung(scene)
        assert scene.hangs == ["silent"]
        for session in (full, hungry, blamed):
            session.fail(Undecodable(""))

    async def until_hung(self, scene: Scene) -> None:
        async with asyncio.timeout(30):
            while not scene.hangs:
                await asyncio.sleep(0)
