"""The file `cameras.toml`."""

from __future__ import annotations

from pathlib import Path

import pytest

from adafocus.service.live.config import CamerasError, load_cameras
from tests.bundle.factory import make_manifest


def load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "cameras.toml"
    path.write_text(text, encoding="utf-8")
    return load_cameras(path)


def test_everything_has_a_default_but_name_and_url(tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text('[[camera]]\nname = "gate"\nurl = "clips/gate.mp4"\n', encoding="utf-8")
    (camera,) = load_cameras(path).camera
    assert (camera.window_s, camera.threshold, camera.hold_s, camera.labels) == (10, 0.5, 0, None)
    assert camera.url == str(tmp_path / "clips/gate.mp4"), "relative to the file"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "camera"),
        ("camera = 5", "camera"),
        ('[[camera]]\nname = "a b"\nurl = "x"', "name"),
        ('[[camera]]\nname = "a"\nurl = "rtmp://user:s3cr3t@host/"', "rtsp, rtsps, http or https"),
        ('[[camera]]\nname = "a"\nurl = "x"\nwindow_s = 0', "window_s"),
        ('[[camera]]\nname = "a"\nurl = "x"\ncolour = "red"', "colour"),
        ('[[camera]]\nname = "a"\nurl = "x"\n[[camera]]\nname = "a"\nurl = "y"', "more than once"),
        ('[[camera]]\nname = "a"\nurl = "x"\n[webhook]\nurl = "http://h/"\nsecret = "short"', "secret"),
        ("[[camera", "cameras.toml"),
        ('[[camera]]\nname = "a"\nurl = "x"\n[mqtt]\nurl = "http://s3cr3t@h/"', "mqtt://HOST"),
        ('[[camera]]\nname = "a"\nurl = "x"\n[mqtt]\nurl = "mqtt://h"\ntopic = "a/#"', "topic"),
        ('[[camera]]\nname = "a"\nurl = "rtsp://user:s3cr3t@/x"', "host"),
    ],
)
def test_what_is_wrong_is_said_without_secrets(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CamerasError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert "short" not in str(caught.value)


def test_labels_and_points_are_checked_against_the_bundle(tmp_path: Path) -> None:
    manifest = make_manifest()
    for more in ('labels = ["nothing like it"]', 'exit = "nowhere"'):
        path = tmp_path / "cameras.toml"
        path.write_text(f'[[camera]]\nname = "a"\nurl = "x"\n{more}\n', encoding="utf-8")
        with pytest.raises(CamerasError, match="camera a"):
            load_cameras(path).check(manifest)
