"""Settings: where they come from, what is refused, and how that is said."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from adafocus.service.settings import Settings, describe, explain, misspelt
from adafocus.video.limits import CONTAINERS, MediaLimits


def refusal(**given: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings(**{"bundle": Path("b"), **given})  # type: ignore[arg-type]
    return explain(caught.value)


def test_defaults_are_the_products() -> None:
    settings = Settings(bundle=Path("b"))
    assert (settings.max_upload_bytes, settings.max_video_seconds, settings.max_pixels) == (
        200_000_000,
        3600,
        8192 * 4320,
    )
    assert settings.containers == CONTAINERS
    assert settings.decode_workers >= 1
    assert settings.intra_op_threads is None


def test_the_environment_is_read_and_arguments_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAFOCUS_BUNDLE", "somewhere")
    monkeypatch.setenv("ADAFOCUS_MAX_QUEUE", "3")
    monkeypatch.setenv("ADAFOCUS_PORT", "1234")
    monkeypatch.setenv("ADAFOCUS_CODECS", "h264, vp9")
    settings = Settings(port=99)  # type: ignore[call-arg]
    assert (settings.bundle, settings.max_queue, settings.port) == (Path("somewhere"), 3, 99)
    assert settings.codecs == ("h264", "vp9")


def test_a_slip_in_a_name_is_noticed_and_another_programs_variable_is_not() -> None:
    names = [
        "ADAFOCUS_API_KEY",
        "ADAFOCUS_MAX_QUEUEE",
        "ADAFOCUS_MAX_QUEUE",
        "ADAFOCUS_PUBLISH",
        "ADAFOCUS_CPUS",
        "HOME",
    ]
    assert list(misspelt(names)) == [
        ("ADAFOCUS_API_KEY", "ADAFOCUS_API_KEYS"),
        ("ADAFOCUS_MAX_QUEUEE", "ADAFOCUS_MAX_QUEUE"),
    ]


def test_what_compose_reads_is_not_taken_for_a_slip(project_root: Path) -> None:
    names = re.findall(r"^(\w+)=", (project_root / ".env.example").read_text(), re.MULTILINE)
    assert "ADAFOCUS_BUNDLES" in names
    assert list(misspelt(names)) == []


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAFOCUS_API_KEYS", "")
    assert Settings(bundle=Path("b")).api_keys == ()


def test_a_refusal_is_one_line_that_names_setting_variable_value_and_range() -> None:
    assert refusal(max_upload_bytes=0) == (
        "max_upload_bytes (ADAFOCUS_MAX_UPLOAD_BYTES): Input should be greater than or equal to 1, got 0"
    )
    assert "ADAFOCUS_PORT" in refusal(port="http")


def test_a_list_of_nothing_is_refused_so_that_no_door_stands_open() -> None:
    assert "name at least one" in refusal(api_keys=" , ")


def test_a_key_that_no_header_could_carry_is_refused_without_showing_it() -> None:
    text = refusal(api_keys="clé")
    assert "printable ASCII" in text
    assert "cl" not in text.removeprefix("api_keys (ADAFOCUS_API_KEYS)").replace("printable ASCII", "")


def test_keys_are_not_shown() -> None:
    settings = Settings(bundle=Path("b"), api_keys="sesame,sky")  # type: ignore[arg-type]
    assert "sesame" not in repr(settings)


@pytest.mark.parametrize("origin", ["example.org", "https://example.org/", "https://example.org/page", "ftp://a"])
def test_an_origin_is_not_an_address(origin: str) -> None:
    assert "scheme://host" in refusal(cors_origins=origin)


def test_an_origin_that_is_none_is_shown_once() -> None:
    assert refusal(cors_origins="foo").count("foo") == 1


@pytest.mark.parametrize("name", ["request_timeout_seconds", "upload_timeout_seconds", "max_video_seconds"])
def test_a_time_without_end_is_refused(name: str) -> None:
    assert "finite" in refusal(**{name: "inf"})


def test_a_folder_of_samples_that_is_none_is_refused(tmp_path: Path) -> None:
    assert str(tmp_path / "none") in refusal(samples=tmp_path / "none")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"codecs": "h264, h265"},
            "codecs (ADAFOCUS_CODECS): 'h265' is not a video codec of FFmpeg; did you mean",
        ),
        ({"containers": "mkv"}, "containers (ADAFOCUS_CONTAINERS): 'mkv' is not a container of FFmpeg; did you mean"),
        ({"containers": "mov,hls"}, "'hls' cannot be permitted: playlists, devices and still images are never read"),
    ],
)
def test_a_codec_or_container_that_cannot_be_read_is_refused_at_the_start(given: dict[str, str], says: str) -> None:
    assert says in refusal(**given)


def test_media_limits_are_passed_on() -> None:
    settings = Settings(bundle=Path("b"), max_pixels=10, max_video_seconds=2, decode_memory_bytes=1 << 27)
    assert settings.media_limits == MediaLimits(max_pixels=10, max_seconds=2, decode_memory_bytes=1 << 27)


def test_every_setting_is_described_with_its_default() -> None:
    described = dict(describe())
    assert len(described) == len(Settings.model_fields)
    assert described["ADAFOCUS_MAX_UPLOAD_BYTES"].endswith("[200000000]")
    assert all(text[0] != "N" for text in described.values()), "a description is missing"
