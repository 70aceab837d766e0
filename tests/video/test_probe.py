from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from adafocus.video.errors import NoVideoStream, TooLong, TooManyPixels, Undecodable, UnsupportedMedia
from adafocus.video.limits import CODECS, CONTAINERS, MediaLimits
from adafocus.video.probe import VideoInfo, open_video
from tests import tolerances
from tests.video.clips import FIXTURES, info_of, make_clip, named, outcome, read_frames, reader

CLIP = named("mp4_faststart.mp4")


def test_a_video_is_described_as_a_user_would() -> None:
    assert info_of(CLIP) == VideoInfo(
        container="mp4",
        codec="h264",
        width=320,
        height=240,
        fps=30.0,
        duration_s=pytest.approx(109 / 30),
        frames=109,
        rotation=0,
    )


def test_a_rotated_video_has_the_size_that_is_displayed() -> None:
    info = info_of(named("rotate_90.mp4"))
    assert (info.width, info.height, info.rotation) == (240, 320, 270)


@pytest.mark.parametrize(
    ("container", "codec", "expected"),
    [
        ("mp4", "libx264", ("mp4", "h264")),
        ("mov", "mjpeg", ("mov", "mjpeg")),
        ("3gp", "libx264", ("3gp", "h264")),
        ("matroska", "ffv1", ("matroska", "ffv1")),
        ("webm", "libvpx-vp9", ("webm", "vp9")),
        ("webm", "libsvtav1", ("webm", "av1")),
        ("avi", "mpeg4", ("avi", "mpeg4")),
        ("mpegts", "mpeg2video", ("mpegts", "mpeg2video")),
        ("vob", "mpeg2video", ("mpeg", "mpeg2video")),
        ("flv", "flv", ("flv", "flv1")),
        ("asf", "wmv2", ("asf", "wmv2")),
    ],
)
def test_containers_and_codecs_have_short_names(container: str, codec: str, expected: tuple[str, str]) -> None:
    info = info_of(make_clip(12, container=container, codec=codec))
    assert (info.container, info.codec) == expected
    assert (info.frames, info.fps, info.duration_s) == (12, 25.0, pytest.approx(12 / 25, abs=tolerances.FRAME_TIME_S))


def test_of_two_video_streams_the_first_is_read() -> None:
    info = info_of(named("two_video_streams.mkv"))
    assert (info.width, info.height) == (160, 120)


def test_the_reader_stays_open_and_is_used_from_its_start() -> None:
    opened = io.BytesIO(CLIP)
    opened.seek(1000)
    for _ in range(2):
        with open_video(opened) as video:
            assert video.info.frames == 109
    assert not opened.closed


@pytest.mark.parametrize(
    ("limits", "error", "says"),
    [
        (MediaLimits(max_pixels=76799), TooManyPixels, "320×240 = 76800 pixels; at most 76799 are permitted"),
        (
            MediaLimits(decode_memory_bytes=70_000_000),
            TooManyPixels,
            r"\d+ bytes; decode_memory_bytes permits 70000000",
        ),
        (MediaLimits(max_seconds=3.5), TooLong, "longer than 3.5 s, the most permitted"),
        (MediaLimits(max_frames=108), TooLong, "more than 108 frames, the most permitted"),
        (MediaLimits(codecs=("hevc", "vp9")), UnsupportedMedia, "codec h264 is not permitted; permitted are hevc, vp9"),
        (MediaLimits(containers=("avi", "ogg")), UnsupportedMedia, "permitted are avi, ogg"),
    ],
)
def test_what_is_over_a_limit_is_told_with_the_limit(limits: MediaLimits, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        info_of(CLIP, limits)


def test_a_video_just_within_the_limits_is_read() -> None:
    limits = MediaLimits(max_pixels=76800, max_seconds=3.7, max_frames=109, containers=("mov",), codecs=("h264",))
    assert info_of(CLIP, limits).frames == 109


@pytest.mark.parametrize("field", ["max_pixels", "max_seconds", "max_frames", "decode_memory_bytes"])
def test_a_limit_must_allow_something(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be greater than 0, got 0"):
        MediaLimits(**{field: 0})
    with pytest.raises(ValueError, match="containers must name at least one"):
        MediaLimits(containers=())


def test_8k_is_refused_by_the_memory_it_would_take() -> None:
    bomb = FIXTURES / "bomb_8k_black_60f.mp4"
    with pytest.raises(TooManyPixels, match=r"decoding 7680×4320 may need \d+ bytes; decode_memory_bytes permits"):
        info_of(bomb)


def test_intra_codecs_need_less_memory_than_those_that_keep_references() -> None:
    limits = MediaLimits(decode_memory_bytes=140 * 1024**2)
    assert outcome(make_clip(1, codec="mjpeg", container="mov", size=(4096, 2304)), limits) == "ok"
    assert outcome(make_clip(1, codec="libx264", size=(4096, 2304)), limits) == "too_many_pixels"


def test_encrypted_video_is_refused_though_it_decodes() -> None:
    with pytest.raises(Undecodable, match="encrypted"):
        info_of(named("encrypted_but_decodes.mp4"))
    with pytest.raises(Undecodable, match="encrypted"):
        info_of(named("encrypted.mp4"))


def test_cover_art_is_not_a_video() -> None:
    with pytest.raises(NoVideoStream, match="no video stream"):
        info_of(named("audio_with_cover_art.m4a"))


@pytest.mark.parametrize(
    "head", [b"ID3\x04\x00", b"fLaC\x00\x00", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"\xff\xfb\x90\x64"]
)
def test_an_audio_file_has_no_video_stream(head: bytes) -> None:
    with pytest.raises(NoVideoStream):
        info_of(head + bytes(5000))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"no video",
        b"<!doctype html><title>404</title>" * 20,
        b"PK\x03\x04" + bytes(3000),
        b"\x89PNG\r\n\x1a\n" + bytes(3000),
        b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(3000),
        b"\x00\x00\x00\x1cftypavif" + bytes(3000),
        b"\x00\x00\x00\x1cftypheic" + bytes(3000),
        b"RIFF\x10\x00\x00\x00WEBPVP8 " + bytes(3000),
        bytes(range(256)) * 64,
    ],
)
def test_what_is_no_video_is_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        info_of(data)


@pytest.mark.parametrize("keep", [100, 8000])
def test_an_mp4_without_its_index_is_a_video_that_cannot_be_used(keep: int) -> None:
    whole = make_clip(60)
    assert whole.index(b"moov") > whole.index(b"mdat")
    with pytest.raises(Undecodable, match="mp4 file is cut or damaged"):
        info_of(whole[: min(keep, whole.index(b"moov") - 8)])


def test_a_matroska_file_cut_in_its_header_is_undecodable() -> None:
    assert outcome(make_clip(10, container="matroska", codec="ffv1")[:60]) == "undecodable"


PLAYLISTS = {
    "concat": "ffconcat version 1.0\nfile {name}\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{name}\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
    'mimeType="video/mp4"><Representation id="1"><BaseURL>{name}</BaseURL></Representation></AdaptationSet></Period>'
    "</MPD>",
}


@pytest.mark.parametrize("careless", [False, True], ids=["defaults", "playlists permitted by mistake"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_never_opens_another_file(
    kind: str, careless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "other.ts"
    clip.write_bytes(make_clip(10, container="mpegts"))
    monkeypatch.chdir(tmp_path)
    limits = MediaLimits(containers=(*CONTAINERS, *PLAYLISTS)) if careless else MediaLimits()
    for name in ("other.ts", str(clip), clip.as_uri()):
        text = PLAYLISTS[kind].format(name=name).encode()
        with pytest.raises(UnsupportedMedia):
            info_of(text, limits)
        # Nor if the object would betray a name from which a demuxer is guessed.
        named = tmp_path / f"upload.{'m3u8' if kind == 'hls' else kind}"
        named.write_bytes(text)
        with named.open("rb") as opened, pytest.raises(UnsupportedMedia), open_video(opened, limits):
            pass


def test_the_extension_means_nothing(tmp_path: Path) -> None:
    named = tmp_path / "song.mp3"
    named.write_bytes(make_clip(5, container="matroska", codec="ffv1"))
    assert info_of(named).container == "matroska"


def test_no_error_names_a_file(tmp_path: Path) -> None:
    named = tmp_path / "secret-name.mp4"
    for data in (b"", CLIP[:20000:2], (FIXTURES / "hls_playlist.m3u8").read_bytes()):
        named.write_bytes(data)
        with pytest.raises((UnsupportedMedia, Undecodable, NoVideoStream)) as caught:
            info_of(named)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_every_default_codec_has_a_decoder() -> None:
    from av.codec import Codec

    for name in CODECS:
        assert Codec(name, "r").canonical_name == name


def test_metadata_in_another_encoding_does_no_harm() -> None:
    data = make_clip(3, container="avi", codec="mpeg4")
    encoder = data.index(b"Lavf")
    assert info_of(data[:encoder] + b"\xff\xfe\xfa" + data[encoder + 3 :]).frames == 3


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_opening_and_closing_leaves_no_memory_behind() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    data = CLIP
    for _ in range(20):
        read_frames(data, (50, 10))
    before = resident()
    for _ in range(60):
        read_frames(data, (50, 10))
        with reader(data) as opened, open_video(opened):
            pass
    assert resident() - before < 16 * 1024**2
