from __future__ import annotations

from pathlib import Path

import pytest

from adafocus.bundle.instructions import has_bf16, has_int8


@pytest.mark.parametrize(
    ("text", "int8", "bf16"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni avx512_bf16\n", True, True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n", True, False),
        ("processor\t: 0\nflags\t\t: fpu avx2 fma\n", False, False),
        ("processor\t: 0\nFeatures\t: fp asimd asimddp\n", True, False),
        ("", False, False),
    ],
)
def test_features_are_read_from_the_list_of_processors(tmp_path: Path, text: str, int8: bool, bf16: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert (has_int8(tmp_path / "cpuinfo"), has_bf16(tmp_path / "cpuinfo")) == (int8, bf16)


def test_a_system_that_lists_none_has_none_of_them(tmp_path: Path) -> None:
    assert not has_int8(tmp_path / "gone")
    assert not has_bf16(tmp_path / "gone")
