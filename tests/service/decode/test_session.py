"""The session's side of the protocol, against a fake worker that sends the messages of the test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

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
from adafocus.service.decode.worker_losses import MAX_KILLED_WORKERS, MAX_WORKERS
from adafocus.service.errors import Internal, TooLarge, TooLong, Undecodable
from tests.service.decode.factory import job
from tests.video.clips import GEOMETRY

OPENED = Opened(
    info=Info(container="mp4", codec="h264", width=64, height=64, fps=25.0, duration_s=1.6, frames=40, rotation=0),
    frames_decoded=1,
    seconds=0.1,
    cpu_seconds=0.05,
)
READY = Ready(
    sandbox=Sandbox(no_new_privileges=True, landlock=0, seccomp=True, memory_limit_bytes=None, missing=[]),
)


def frame(slot: int, position: int, *, decoded: int = 5, seconds: float = 0.2) -> FrameReady:
    return FrameReady(
        slot=slot,
        position=position,
        index=position,
        time_s=None,
        frames_decoded=decoded,
        seconds=seconds,
        cpu_seconds=seconds / 2,
    )


def done(code: str | None = None, detail: str = "", *, capped: bool = False) -> Done:
    error = None if code is None else Failure(code=code, detail=detail)
    return Done(frames_decoded=9, seconds=0.3, cpu_seconds=0.2, capped=capped, error=error)


@dataclass
class FakeWorker:
    """Remembers what it is told."""

    told: list[str] = field(default_factory=list)
    gone: bool = False

    def send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        if self.gone:
            raise WorkerGoneError
        words = [str(message[name]) for name in ("type", "slot", "size", "complete") if name in message]
        self.told.append(" ".join(words) + " silently" * bool(message.get("silent")))

    def cpu_seconds(self) -> float:
        return 0.0

    def starved(self) -> bool:
        return False


@dataclass
class Scene:
    """A session that has been given to a worker, and what came of it."""

    session: DecodeSession
    worker: FakeWorker
    spool: Spool
    memory: SharedFrames
    ends: list[Done | None] = field(default_factory=list)
    hangs: list[Verdict] = field(default_factory=list)
    read: list[SharedFrames] = field(default_factory=list)

    async def assign(self) -> None:
        self.worker = FakeWorker()
        self.memory = make_memory(20)
        self.session.start(self.worker, self.memory)

    def hear(self, *replies: Reply) -> None:
        for reply in replies:
            self.session.hear(reply)


def make_memory(first: int = 0) -> SharedFrames:
    """Memory of two slots, each of a shade of its own."""
    frames = SharedFrames.create(slots=2, crop=GEOMETRY.crop)
    for slot in range(2):
        frames.segment.pixels[slot] = first + slot
    return frames


@pytest.fixture
async def scene() -> Iterator[Scene]:  # type: ignore[misc]  # an async generator, which pytest-asyncio understands
    frames = make_memory()
    with Spool() as spool:
        spool.write(b"0123456789")
        scene = Scene(None, FakeWorker(), spool, frames)  # type: ignore[arg-type]  # set below
        scene.session = make_session(scene, WorkerTimeouts(stall_seconds=30))
        scene.session.start(scene.worker, frames)
        yield scene  # type: ignore[misc]
        scene.session.fail(Internal())
    frames.close()


def make_session(scene: Scene, patience: WorkerTimeouts, slots: int | None = None) -> DecodeSession:
    return DecodeSession(
        scene.spool,
        job(slots=slots),
        patience,
        on_end=lambda _, done: scene.ends.append(done),
        on_hang=lambda _, verdict: scene.hangs.append(verdict),
        on_read=scene.read.append,
        assign=lambda _: scene.assign(),
    )


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
    session = scene.session
    assert (session.cost.frames, session.cost.seconds, session.cost.cpu_seconds) == (9, 0.3, 0.2)
    assert not session.capped
    assert len(scene.ends) == 1


async def test_frames_that_came_together_are_told_of_once(scene: Scene) -> None:
    told: list[int] = []

    def take() -> None:
        told.append(0)
        while scene.session.next_arrived() is not None:
            told[-1] += 1

    scene.session.listen(take)
    scene.session.hear(OPENED)
    assert told == [], "there is nothing to take"
    scene.session.hear(frame(0, 0), frame(1, 2))
    assert told == [2]
    with pytest.raises(ProtocolError):
        scene.session.hear(done(), frame(0, 3))
    assert told == [2, 0], "the end"


async def test_closing_waits_for_a_worker_only_while_it_may_be_working(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0, decoded=5), frame(1, 2, decoded=7))
    assert await scene.session.next() is not None
    await scene.session.close()  # both slots are held here: the worker waits, and has said what it cost
    assert scene.worker.told[-1] == "close silently"
    assert (scene.session.cost.frames, scene.ends) == (7, [None]), "it is free for the next job"
    with pytest.raises(ProtocolError):
        scene.hear(done())


async def test_a_worker_that_may_be_about_to_say_something_is_listened_to_after_closing(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0), frame(1, scene.session.planned - 1))  # the last one, so that it says `done` next
    await scene.session.close()
    assert (scene.worker.told[-1], scene.ends) == ("close", [])
    scene.hear(done())
    assert len(scene.ends) == 1


async def test_memory_is_free_when_the_worker_has_ended_and_all_frames_have_been_read(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0), frame(1, 2))
    assert await scene.session.next() is not None
    scene.hear(done())
    assert (len(scene.ends), scene.read) == (1, []), "the worker is free, and its frames stay"
    second = await scene.session.next()
    assert second is not None
    assert (int(second.pixels.max()), scene.read) == (1, [])
    assert await scene.session.next() is None
    assert scene.read == [scene.memory]


async def test_memory_is_free_when_frames_that_nobody_took_are_dropped(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0))
    assert await scene.session.next() is not None
    scene.hear(frame(1, 2))
    scene.session.give_back(scene.session._lent)  # type: ignore[arg-type]  # so that a slot is free
    scene.session.abandon()
    assert scene.read == [], "the worker may still write"
    scene.hear(done())
    assert scene.read == [scene.memory]


async def test_memory_is_free_when_a_worker_that_waits_is_closed(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0), frame(1, 2))
    assert await scene.session.next() is not None
    await scene.session.close()
    assert scene.read == [scene.memory], "it writes only when it is told to"


async def test_a_second_worker_delivers_what_the_first_has_not(scene: Scene) -> None:
    scene.hear(OPENED, frame(0, 0, decoded=5, seconds=0.2), frame(1, 2, decoded=6, seconds=0.3))
    first = await scene.session.next()
    assert first is not None
    assert scene.session.replaceable()
    scene.session.lost()
    scene.session.worker_ended()
    other, memory = FakeWorker(), make_memory(10)
    scene.session.start(other, memory)
    assert scene.session.replaceable()
    assert not scene.session.replaceable(stuck=True)
    scene.hear(OPENED, frame(0, 0, decoded=5), frame(1, 2, decoded=6), frame(0, 3, decoded=7, seconds=0.25))
    assert other.told == ["job 10 False", "free 0", "free 1"], "frames that were delivered are given back at once"
    second, third = await scene.session.next(), await scene.session.next()
    assert second is not None
    assert third is not None
    assert [(got.position, int(got.pixels.max())) for got in (second, third)] == [(2, 1), (3, 10)]
    assert scene.worker.told == ["job 10 False"], "nothing is said to a worker that has ended"
    assert (scene.session.cost.frames, scene.session.cost.seconds) == (13, 0.55)
    assert scene.read == [scene.memory]
    scene.hear(done())
    assert await scene.session.next() is None
    assert scene.read == [scene.memory, memory]
    memory.close()


async def test_kills_from_outside_are_forgiven_more_often_than_faults(scene: Scene) -> None:
    memories = []
    for _ in range(MAX_KILLED_WORKERS - 1):
        assert scene.session.replaceable()
        scene.session.lost()
        memories.append(make_memory(1))
        scene.session.start(FakeWorker(), memories[-1])
    assert scene.session.losses.workers == MAX_KILLED_WORKERS
    assert not scene.session.replaceable()
    for memory in memories:
        memory.close()


async def test_faults_are_forgiven_a_few_times(scene: Scene) -> None:
    scene.session.losses.faults = MAX_WORKERS - 1
    assert scene.session.replaceable()
    scene.session.losses.faults += 1
    assert not scene.session.replaceable()


async def test_rewinding_delivers_all_frames_again(scene: Scene) -> None:
    first_worker, first_memory = scene.worker, scene.memory
    scene.hear(OPENED, frame(0, 0), frame(1, 2))
    assert await scene.session.next() is not None
    await scene.session.rewind()
    assert first_worker.told[-1] == "close silently"
    assert scene.read == [first_memory]
    scene.hear(OPENED, frame(0, 0, decoded=5))
    got = await scene.session.next()
    assert got is not None
    assert (got.position, int(got.pixels.max())) == (0, 20)
    assert scene.session.cost.frames == 10
    assert scene.session.replaceable()
    first_memory.close()


async def test_a_session_that_has_ended_can_be_rewound(scene: Scene) -> None:
    first_memory = scene.memory
    scene.hear(OPENED, frame(0, 0), done())
    await scene.session.rewind()
    assert scene.worker.told == ["job 10 False"]
    scene.hear(OPENED, frame(0, 0), frame(1, 3), done())
    positions = [got.position for got in [await scene.session.next(), await scene.session.next()] if got is not None]
    assert positions == [0, 3]
    assert await scene.session.next() is None
    first_memory.close()


async def test_a_session_that_is_closed_while_it_has_no_worker_ends(scene: Scene) -> None:
    scene.hear(OPENED)
    scene.session.lost()
    await scene.session.close()
    assert (scene.session.ended, scene.session.replaceable()) == (True, False)


@pytest.mark.parametrize("reply", [frame(0, 3), frame(0, 16)])
async def test_a_second_worker_is_held_to_the_protocol(scene: Scene, reply: Reply) -> None:
    scene.hear(OPENED, frame(0, 0))
    scene.session.lost()
    memory = make_memory()
    scene.session.start(FakeWorker(), memory)
    if reply == frame(0, 16):
        scene.hear(OPENED)
    with pytest.raises(ProtocolError):
        scene.hear(reply)
    memory.close()


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
        (OPENED, Need(size=5)),
        (OPENED, Need(size=50), Need(size=60)),
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
    assert scene.session.cost.frames == 9


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
        (done("memory_refused"), Undecodable, "decode_memory_bytes"),
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
    scene.hear(Need(size=25))
    scene.spool.write(b"x" * 10)
    assert scene.worker.told == ["job 10 False"]
    scene.spool.write(b"x" * 10)
    assert scene.worker.told[-1] == "more 30 False"
    scene.hear(Need(size=None))
    scene.spool.write(b"x" * 10)
    assert scene.worker.told[-1] == "more 30 False"
    scene.spool.finish()
    assert scene.worker.told[-1] == "more 40 True"
    with pytest.raises(ProtocolError):
        scene.hear(Need(size=None))


async def test_an_upload_that_fails_ends_the_session_with_its_error(scene: Scene) -> None:
    scene.hear(Need(size=None))
    opening = asyncio.create_task(scene.session.opened())
    await asyncio.sleep(0)
    scene.spool.fail(TooLarge("too large"))
    assert scene.worker.told[-1] == "close"
    scene.hear(done())
    with pytest.raises(TooLarge):
        await opening


async def test_a_worker_that_was_gone_already_is_told_of(scene: Scene) -> None:
    scene.worker.gone = True
    other = make_session(scene, WorkerTimeouts())
    with pytest.raises(WorkerGoneError):
        other.start(scene.worker, scene.memory)
    scene.hear(OPENED, frame(0, 0))
    assert await scene.session.next() is not None, "a slot that cannot be given back does no harm"


class TestPatience:
    async def judged(self, scene: Scene, *replies: Reply, close: bool = False) -> DecodeSession:
        """A session of little patience that has heard these."""
        session = make_session(scene, WorkerTimeouts(stall_seconds=0.01, close_seconds=0.02))
        session.start(scene.worker, scene.memory)
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
        hungry = await self.judged(scene, Need(size=None))
        blamed = await self.judged(scene, OPENED)  # of the same age, so its verdict comes no earlier than theirs
        await self.until_hung(scene)
        assert scene.hangs == ["silent"]
        for session in (full, hungry, blamed):
            session.fail(Undecodable(""))

    async def until_hung(self, scene: Scene) -> None:
        async with asyncio.timeout(30):
            while not scene.hangs:
                await asyncio.sleep(0)
