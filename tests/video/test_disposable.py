"""Only pictures that cannot affect a wanted frame are left undecoded, so every wanted frame equals that of a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.video.bits import UnreadableError
from adafocus.video.decoder import Frame
from adafocus.video.disposable import Disposables, reordered
from adafocus.video.errors import Undecodable, VideoError
from adafocus.video.parameter_sets import h264_ordering, hevc_ordering
from tests.conftest import ROOT
from tests.media.damage import cut_within_packets
from tests.media.named import NAMES
from tests.video.clips import claim_key_frames, make_clip, named, number_of, order_16, read_frames
from tests.video.test_plan import make_index

SPARED = {
    "h264": {"codec": "libx264", "x264-params": "keyint=600:bframes=3"},
    "h264, pyramid and many groups": {"codec": "libx264", "x264-params": "keyint=20:bframes=5:b-pyramid=normal"},
    "h264, strict pyramid": {"codec": "libx264", "x264-params": "keyint=20:bframes=5:b-pyramid=strict:ref=5"},
    "h264, open groups": {"codec": "libx264", "x264-params": "keyint=12:min-keyint=2:open-gop=1:bframes=4"},
    "h264, slices": {"codec": "libx264", "x264-params": "keyint=20:bframes=2:slices=4"},
    "h264, units delimited": {"codec": "libx264", "x264-params": "keyint=20:bframes=2:aud=1"},
    "h264, temporal direct": {"codec": "libx264", "x264-params": "keyint=40:bframes=3:direct=temporal:weightb=1"},
    "h264 in MPEG-TS": {"codec": "libx264", "container": "mpegts", "x264-params": "keyint=20:bframes=3"},
    "h264 in FLV": {"codec": "libx264", "container": "flv", "x264-params": "keyint=20:bframes=3"},
    "h264 in Matroska": {"codec": "libx264", "container": "matroska", "x264-params": "keyint=20:bframes=3"},
    "h264 in AVI": {"codec": "libx264", "container": "avi", "x264-params": "keyint=20:bframes=0:b-pyramid=none"},
    "hevc": {"codec": "libx265", "x265-params": "keyint=20:bframes=4:log-level=none"},
    "hevc, no pyramid": {"codec": "libx265", "x265-params": "keyint=20:bframes=4:b-pyramid=0:log-level=none"},
    "hevc, open groups": {"codec": "libx265", "x265-params": "keyint=12:open-gop=1:bframes=3:log-level=none"},
    "hevc, two sub-layers": {"codec": "libx265", "x265-params": "keyint=20:bframes=3:temporal-layers=2:log-level=none"},
    "hevc in MPEG-TS": {
        "codec": "libx265", "container": "mpegts", "x265-params": "keyint=20:bframes=3:log-level=none"
    },
}  # fmt: skip
NOT_SPARED = {
    "h264, fields": {"codec": "libx264", "x264-params": "keyint=20:bframes=3:tff=1"},
    "h264, a message in every packet": {"codec": "libx264", "x264-params": "keyint=20:bframes=3:nal-hrd=vbr:"
    "pic-struct=1:vbv-maxrate=900:vbv-bufsize=900"},
    "mpeg4": {"codec": "mpeg4", "container": "avi", "g": "20", "bf": "2"},
    "mpeg2": {"codec": "mpeg2video", "container": "vob", "g": "20", "bf": "2"},
    "vp9": {"codec": "libvpx-vp9", "container": "webm", "g": "20"},
}  # fmt: skip
LARGE = {"hevc_5k_10bit.mp4"}
DAMAGED = ("zeroed_middle.mp4", "corrupted_midstream_720p.mp4")


def read(data: bytes | Path, wanted: tuple[int, ...] | None, *, sparing: bool) -> tuple[list[Frame], int]:
    """Wanted frames and how many were decoded for them, with and without leaving any out."""
    with pytest.MonkeyPatch.context() as patch:
        if not sparing:
            patch.setattr(Disposables, "may_leave_out", lambda *_: False)
        frames, stream, _ = read_frames(data, wanted)
        return frames, stream.frames_decoded


def spared(data: bytes | Path, wanted: tuple[int, ...]) -> int:
    """Checks that the wanted frames come out as a full decode gives them; how many fewer were decoded for them."""
    everything, full = read(data, wanted, sparing=False)
    frames, fewer = read(data, wanted, sparing=True)
    assert [(frame.position, frame.index) for frame in frames] == [(f.position, f.index) for f in everything]
    for frame, other in zip(frames, everything, strict=True):
        assert frame.time_s == other.time_s
        assert np.array_equal(frame.pixels, other.pixels), frame.index
    assert fewer <= full
    return full - fewer


@pytest.mark.parametrize("options", SPARED.values(), ids=SPARED)
def test_wanted_frames_are_those_of_a_full_decode(options: dict[str, str]) -> None:
    clip = make_clip(90, **options)
    left_out = [spared(clip, wanted) for wanted in (order_16(90), (45,), (89, 0), tuple(range(89, -1, -9)))]
    assert (max(left_out) > 0) == ("bframes=0" not in str(options))
    # The picture on display just before a wanted one is decoded too; who wants all of them misses none.
    assert spared(clip, tuple(range(90))) == 0
    assert [number_of(frame.pixels) for frame in read(clip, order_16(90), sparing=True)[0]] == list(order_16(90))


@pytest.mark.parametrize("options", NOT_SPARED.values(), ids=NOT_SPARED)
def test_what_is_not_certain_is_decoded(options: dict[str, str]) -> None:
    clip = make_clip(90, **options)
    assert [spared(clip, wanted) for wanted in (order_16(90), (45,), (89, 0))] == [0, 0, 0]


@settings(max_examples=40)
@given(st.data())
def test_any_frames_of_any_pyramid(data: st.DataObject) -> None:
    params = {
        "keyint": data.draw(st.sampled_from([7, 25, 600])),
        "bframes": data.draw(st.integers(0, 8)),
        "b-pyramid": data.draw(st.sampled_from(["none", "strict", "normal"])),
        "b-adapt": data.draw(st.integers(0, 2)),
        "ref": data.draw(st.integers(1, 6)),
        "open-gop": data.draw(st.integers(0, 1)),
    }
    options = {"x264-params": ":".join(f"{name}={value}" for name, value in params.items())}
    container = data.draw(st.sampled_from(["mp4", "mpegts", "matroska"]))
    clip = make_clip(40, codec="libx264", container=container, **options)
    spared(clip, tuple(data.draw(st.lists(st.integers(0, 39), min_size=1, max_size=8))))


@pytest.mark.parametrize("quality", range(18, 34, 3))
def test_over_recordings_with_torn_ends(quality: int) -> None:
    whole = make_clip(109, container="mpegts", size=(320, 240), rate=30, g="20", bf="2", crf=str(quality))
    for begin in (0.08, 0.1, 0.12):
        over(cut_within_packets(whole, begin, 0.9))


def test_over_the_named_clips() -> None:
    assert sum(over(named(name)) for name in NAMES if name not in DAMAGED) > 100


def test_over_the_corpus(shared_dir: Path) -> None:
    clips = sorted((shared_dir / "videos").iterdir())
    assert sum(over(path) for path in clips if path.suffix != ".json" and path.name not in (*DAMAGED, *LARGE)) > 500


def test_over_the_samples() -> None:
    assert sum(over(path) for path in (ROOT / "samples").glob("*.mp4")) > 10


def over(clip: bytes | Path) -> int:
    """Checks one file, of whatever kind; how many frames were left out of its sixteen."""
    try:
        count = len(read_frames(clip)[2].index.order)
    except VideoError as error:
        with pytest.raises(type(error)):
            read(clip, None, sparing=True)
        return 0
    for wanted in ((count // 2,), tuple(range(0, count, 7)), (count - 1, 0)):
        spared_or_refused(clip, wanted)
    return spared(clip, order_16(count))


def spared_or_refused(clip: bytes | Path, wanted: tuple[int, ...]) -> None:
    """Both ways decode the same frames, or neither decodes any, as with the torn ends of a recording."""
    try:
        read(clip, wanted, sparing=False)
    except Undecodable:
        with pytest.raises(Undecodable):
            read(clip, wanted, sparing=True)
    else:
        spared(clip, wanted)


def test_damage_costs_no_more_frames_than_before() -> None:
    check_damaged(named("zeroed_middle.mp4"))


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_in_the_corpus_costs_no_more_frames_than_before(name: str, shared_dir: Path) -> None:
    check_damaged(shared_dir / "videos" / name)


def check_damaged(clip: bytes | Path) -> None:
    """What a decoder makes up for lost pictures depends on all that it was given; which frames there are does not."""
    everything, _ = read(clip, None, sparing=False)
    wanted = order_16(everything[-1].index + 1)
    full, _ = read(clip, wanted, sparing=False)
    frames, _ = read(clip, wanted, sparing=True)
    assert [frame.index for frame in frames] == [frame.index for frame in full]
    damaged = next(i for i, frame in enumerate(everything) if frame.index != i or not _same(frame, full, frames))
    assert damaged > 5


def _same(frame: Frame, *others: list[Frame]) -> bool:
    return all(
        np.array_equal(frame.pixels, other.pixels) for each in others for other in each if other.index == frame.index
    )


def test_key_frames_that_are_none_still_give_only_the_right_frames() -> None:
    for codec in ({"codec": "libx264", "x264-params": "keyint=600:bframes=3"}, SPARED["hevc"]):
        clip = claim_key_frames(make_clip(60, **codec), "mp4", every=8)
        for wanted in (order_16(60), (45,), (59, 0)):
            frames, _ = read(clip, wanted, sparing=True)
            assert all(number_of(frame.pixels) == frame.index for frame in frames)


class Writer:
    """Bits of a parameter set."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, count: int, value: int) -> Writer:
        """A fixed number of bits."""
        self.bits += format(value, f"0{count}b")
        return self

    def ue(self, *values: int) -> Writer:
        """Exp-Golomb codes."""
        for value in values:
            code = format(value + 1, "b")
            self.bits += "0" * (len(code) - 1) + code
        return self

    def bytes(self) -> bytes:
        """With the stop bit, padded, and with emulation prevention."""
        bits = self.bits + "1"
        plain = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8))
        out = bytearray()
        for byte in plain:
            if byte <= 3 and out[-2:] == b"\0\0":
                out.append(3)
            out.append(byte)
        return bytes(out)


def h264_set(*, reorder: int | None = 2, frames_only: int = 1, gaps: int = 0, buffering: int = 0) -> bytes:
    """A sequence parameter set of the main profile."""
    w = Writer().u(8, 77).u(8, 0).u(8, 30).ue(0, 0, 1).u(1, 0).ue(0, 0, 2, 5, 6)
    w.ue(4).u(1, gaps).ue(19, 14).u(1, frames_only)
    if not frames_only:
        w.u(1, 0)
    w.u(1, 1).u(1, 0)
    if reorder is None:
        return w.u(1, 0).bytes()
    w.u(1, 1).u(1, 1).u(8, 255).u(16, 1).u(16, 1).u(1, 0).u(1, 1).u(4, 5).u(1, 1).u(24, 0x010101).u(1, 1).ue(0, 0)
    w.u(1, 1).u(32, 1).u(32, 50).u(1, 1)
    for _ in range(2):
        w.u(1, buffering)
        if buffering:
            w.ue(1).u(8, 0).ue(7, 8).u(1, 0).ue(7, 8).u(1, 0).u(20, 0)
    if buffering:
        w.u(1, 0)
    return w.u(1, 0).u(1, 1).u(1, 1).ue(0, 0, 10, 10, reorder, 4).bytes()


@pytest.mark.parametrize("buffering", [0, 1])
@pytest.mark.parametrize("reorder", [0, 2, 16])
def test_the_promise_of_a_parameter_set_is_found(reorder: int, buffering: int) -> None:
    ordering = h264_ordering(h264_set(reorder=reorder, buffering=buffering))
    assert (ordering.whole_frames, ordering.reordered) == (True, reorder)
    assert h264_ordering(h264_set(reorder=None)).reordered is None
    assert not h264_ordering(h264_set(frames_only=0)).whole_frames
    with pytest.raises(UnreadableError):
        h264_ordering(h264_set(gaps=1))


NON_REFERENCE, REFERENCE, MESSAGE = b"\x01\xff\xff", b"\x61\xff\xff", b"\x06\xff\xff"


def packet(*units: bytes) -> bytes:
    """NAL units, each after its start code."""
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def sps(**options: int | None) -> bytes:
    """The same as a NAL unit."""
    return b"\x67" + h264_set(**options)  # type: ignore[arg-type]


def disposables(extradata: bytes) -> Disposables:
    """For a file in which one picture is stored out of order: two must be waited for."""
    return Disposables("h264", extradata, make_index([(12, 0), (12, 0)]))


def test_a_packet_may_be_left_out_if_no_picture_needs_it_and_it_says_nothing_else() -> None:
    here = disposables(packet(sps()))
    assert here.may_leave_out(packet(NON_REFERENCE))
    assert here.may_leave_out(packet(b"\x09\xf0", NON_REFERENCE, NON_REFERENCE))
    for other in (
        packet(REFERENCE),
        packet(NON_REFERENCE, REFERENCE),
        packet(MESSAGE, NON_REFERENCE),
        packet(sps(), NON_REFERENCE),
        packet(b"\x02\xff\xff"),
        packet(b"\x09\xf0"),
        b"\xff" + packet(NON_REFERENCE),
        NON_REFERENCE,
        b"",
    ):
        assert not here.may_leave_out(other)
    assert here.may_leave_out(packet(NON_REFERENCE))


@pytest.mark.parametrize(
    "unfit", [{"reorder": None}, {"reorder": 0}, {"frames_only": 0}, {"gaps": 1}], ids=lambda options: str(options)
)
def test_a_parameter_set_that_does_not_permit_it_ends_it_for_good(unfit: dict[str, int | None]) -> None:
    assert not disposables(packet(sps(**unfit))).may_leave_out(packet(NON_REFERENCE))
    midway = disposables(packet(sps()))
    assert midway.may_leave_out(packet(NON_REFERENCE))
    assert not midway.may_leave_out(packet(sps(**unfit), REFERENCE))
    assert not midway.may_leave_out(packet(NON_REFERENCE))
    assert not midway.may_leave_out(packet(sps(), REFERENCE))
    assert not midway.may_leave_out(packet(NON_REFERENCE))


def test_nothing_is_left_out_without_a_parameter_set_or_believable_times() -> None:
    assert not disposables(b"").may_leave_out(packet(NON_REFERENCE))
    untimed = Disposables("h264", packet(sps()), make_index([(12, 0)], ordered=False))
    assert not untimed.may_leave_out(packet(NON_REFERENCE))
    assert not Disposables("vp8", packet(sps()), make_index([(12, 0)])).may_leave_out(packet(NON_REFERENCE))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_reordering_is_counted_as_the_format_defines_it(groups: list[int], random: object) -> None:
    index = make_index([(size, size // 3) for size in groups])
    rank = {int(packet): place for place, packet in enumerate(index.order)}
    counts = [sum(rank[other] > rank[at] for other in range(at)) for at in range(index.packets)]
    assert reordered(index) in (max(counts), None)
    assert reordered(index) is not None or max(counts) > 2


@given(st.sampled_from(["h264", "hevc"]), st.binary(max_size=60), st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_are_too_strange(codec: str, extradata: bytes, packets: list[bytes]) -> None:
    here = Disposables(codec, extradata, make_index([(12, 0)]))
    for strange in packets:
        assert here.may_leave_out(strange) in (True, False)
        here.may_leave_out(packet(b"\x67" + strange, b"\x42\x01" + strange))


@given(st.binary(max_size=80))
def test_a_parameter_set_is_understood_or_refused(payload: bytes) -> None:
    for read_set in (h264_ordering, hevc_ordering):
        try:
            assert read_set(payload).top_layer <= 7
        except UnreadableError:
            continue
