"""The API keys that are valid now, and reloading their file."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from adafocus.service.http.keys import KeyFileError, Keyring, read_keys


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_keys_none_is_asked_for() -> None:
    assert Keyring((), None, Clock()).open_to_all
    assert not Keyring(("a",), None, Clock()).open_to_all


def test_a_key_opens_for_itself_only_and_its_holder_has_a_name_that_betrays_nothing() -> None:
    ring = Keyring(("sesame", "sky"), None, Clock())
    names = [ring.holder(key) for key in ("sesame", "sky")]
    assert None not in names
    assert len(set(names)) == 2
    assert not any("sesame" in str(name) for name in names)
    for wrong in ("ses", "", None, "sesame,sky", "sésame"):
        assert ring.holder(wrong) is None


def write(path: Path, text: str, clock: Clock) -> None:
    """Write a file whose stamp differs from that of any before."""
    clock.now += 10
    path.write_text(text)
    os.utime(path, (clock.now, clock.now))


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "keys"
    write(path, "# since May\nold\n\n", clock)
    ring = Keyring(("fixed",), path, clock)
    assert ring.holder("old")
    write(path, "old\nnew\n", clock)
    assert all(ring.holder(key) for key in ("old", "new", "fixed"))
    write(path, "new\n", clock)
    assert ring.holder("old") is None
    assert ring.holder("# since May") is None


@pytest.mark.parametrize("text", ["", "# only a word\n", "clé\n", "tab\tinside\n"])
def test_a_file_that_has_become_unusable_locks_nobody_out(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock, path = Clock(), tmp_path / "keys"
    write(path, "good\n", clock)
    ring = Keyring((), path, clock)
    write(path, text, clock)
    with caplog.at_level(logging.ERROR):
        assert ring.holder("good")
        assert ring.holder("") is None
    assert "stay as they are" in caplog.text
    path.unlink()
    clock.now += 10
    assert ring.holder("good")
    with pytest.raises(KeyFileError, match="keys"):
        read_keys(path)


def test_a_file_that_is_unusable_from_the_start_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("\n")
    with pytest.raises(KeyFileError, match="has no key"):
        Keyring((), path, Clock())
