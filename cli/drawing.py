"""Draws the contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from adafocus.bundle.manifest import Manifest
from adafocus.cli.contact_sheet import Looked
from adafocus.service.progress import StepReport

_TILE, _GAP, _EDGE, _PER_ROW = 168, 14, 28, 8
_HEAD, _UNDER = 74, 46
_PAPER, _INK, _SOFT, _RULE = "#fffefb", "#191c21", "#585d67", "#d9d6cd"
_REASONS = {
    "confident": "confident at step {step} of {steps}",
    "all_steps": "used all {steps} steps",
    "max_gflops": "compute limit reached at step {step} of {steps}",
    "deadline": "deadline reached at step {step} of {steps}",
    "end_of_video": "no more frames after step {step} of {steps}",
}
_PATCH, _STOP = "#f0a020", "#1d7a4c"


def write_sheet(path: Path, manifest: Manifest, videos: Sequence[Looked]) -> None:
    """Draw the videos one below the other and write the picture in the format that the file name ends in.

    Raises:
        OSError: the file cannot be written.
        ValueError: no format has that ending.
    """
    sheet = draw_sheet(manifest, videos)
    partial = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        sheet.save(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def draw_sheet(manifest: Manifest, videos: Sequence[Looked]) -> Image.Image:
    """Draw the videos one below the other."""
    columns = min(manifest.steps, _PER_ROW)
    rows = -(-manifest.steps // _PER_ROW)
    width = max(2 * _EDGE + columns * (_TILE + _GAP) - _GAP, 720)
    block = _HEAD + rows * (_TILE + _UNDER + _GAP) + _GAP
    sheet = Image.new("RGB", (width, 2 * _EDGE - _GAP + block * len(videos)), _PAPER)
    for number, video in enumerate(videos):
        _Block(sheet, manifest, _EDGE + number * block).draw(video)
    return sheet


class _Block:
    """The part of the sheet that shows one video."""

    def __init__(self, sheet: Image.Image, manifest: Manifest, top: int) -> None:
        self._sheet = sheet
        self._pen = ImageDraw.Draw(sheet)
        self._manifest = manifest
        self._top = top

    def draw(self, video: Looked) -> None:
        """Draw the heading and every step."""
        self._head(video)
        seen = {report.place: report for report in video.reports}
        for place in range(self._manifest.steps):
            x = _EDGE + place % _PER_ROW * (_TILE + _GAP)
            y = self._top + _HEAD + place // _PER_ROW * (_TILE + _UNDER + _GAP)
            report = seen.get(place)
            if report is None:
                self._blank(x, y)
            else:
                self._tile(x, y, report, stopped=report is video.reports[-1])

    def _head(self, video: Looked) -> None:
        answer, left, cost = video.answer, video.answer.exit, video.answer.compute
        best = answer.predictions[0]
        right = self._sheet.width - _EDGE
        self._pen.text((_EDGE, self._top), _shown(best.label), _INK, _font(26))
        self._pen.text((right, self._top + 4), f"{best.score:.1%}", _INK, _font(20), anchor="ra")
        wanted = "" if left.threshold is None else f" (threshold {left.threshold:.3f})"
        why = _REASONS[left.reason].format(step=left.step, steps=left.steps)
        told = f"{video.name}  ·  {left.point}: {why}, confidence {left.confidence:.3f}{wanted}"
        self._pen.text((_EDGE, self._top + 38), told, _SOFT, _font(14))
        price = f"{cost.gflops:.3g} of {cost.gflops_full:.3g} GFLOPs"
        self._pen.text((right, self._top + 38), price, _SOFT, _font(14), anchor="ra")

    def _tile(self, x: int, y: int, report: StepReport, *, stopped: bool) -> None:
        picture = Image.fromarray(report.pixels).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
        self._sheet.paste(picture, (x, y))
        box, view = report.entry.patch, report.view
        across, down = _TILE / view.width, _TILE / view.height
        left, top = x + (box.x - view.x) * across, y + (box.y - view.y) * down
        self._pen.rectangle((left, top, left + box.width * across, top + box.height * down), outline=_PATCH, width=3)
        if stopped:
            self._pen.rectangle((x - 4, y - 4, x + _TILE + 3, y + _TILE + 3), outline=_STOP, width=4)
        self._badge(x, y, report.entry.step, _STOP if stopped else _INK)
        when = f"frame {report.entry.frame}" if report.entry.time_s is None else f"{report.entry.time_s:.2f} s"
        self._pen.text((x, y + _TILE + 6), when, _SOFT, _font(13))
        sure = f"{report.entry.confidence:.3f}"
        self._pen.text((x + _TILE, y + _TILE + 6), sure, _STOP if stopped else _INK, _font(13), anchor="ra")
        label = _fitted(_shown(report.entry.label), _font(13), _TILE)
        self._pen.text((x, y + _TILE + 24), label, _INK, _font(13))

    def _badge(self, x: int, y: int, step: int, colour: str) -> None:
        self._pen.ellipse((x - 8, y - 8, x + 20, y + 20), fill=colour, outline=_PAPER, width=2)
        self._pen.text((x + 6, y + 6), str(step), _PAPER, _font(14), anchor="mm")

    def _blank(self, x: int, y: int) -> None:
        hatch = Image.new("RGB", (_TILE, _TILE), _PAPER)
        pen = ImageDraw.Draw(hatch)
        for start in range(-_TILE, _TILE, 12):
            pen.line((start, _TILE, start + _TILE, 0), _RULE)
        pen.rectangle((0, 0, _TILE - 1, _TILE - 1), outline=_RULE)
        self._sheet.paste(hatch, (x, y))
        self._pen.text((x, y + _TILE + 6), "not used", _SOFT, _font(13))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return the text, cut to the width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _shown(label: str) -> str:
    return label.replace("_", " ")
