"""Draws the contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from adafocus.bundle.manifest import Manifest
from adafocus.cli.contact_sheet import Looked
from adafocus.service.progress import StepReport
from adafocus.service.schemas.classify import SegmentAnswer

_TILE, _GAP, _EDGE, _PER_ROW = 168, 14, 28, 8
_HEAD, _UNDER = 74, 46
_PAPER, _INK, _SOFT, _RULE = "#fffefb", "#191c21", "#585d67", "#d9d6cd"
_REASONS = {
    "confident": "confident at step {step} of {steps}",
    "all_steps": "used all {steps} steps",
    "max_gflops": "compute limit reached at step {step} of {steps}",
    "max_decode_ms": "decoding limit reached at step {step} of {steps}",
    "deadline": "deadline reached at step {step} of {steps}",
    "end_of_video": "no more frames after step {step} of {steps}",
}
_PATCH, _STOP = "#f0a020", "#1d7a4c"
_LABELS = ("#2f6db5", "#d1763f", "#1d7a4c", "#a23b72", "#8a7a1f", "#5b4bb3", "#0f7f8c", "#b3392f")
"""Colours of labels on a time line: the most frequent labels have one each, all others are grey."""
_BAR, _MARK = 44, 12


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
    line = _HEAD + _BAR + 2 * _UNDER + _GAP
    heights = [block if video.answer.segments is None else line for video in videos]
    sheet = Image.new("RGB", (width, 2 * _EDGE - _GAP + sum(heights)), _PAPER)
    top = _EDGE
    for height, video in zip(heights, videos, strict=True):
        _Block(sheet, manifest, top).draw(video)
        top += height
    return sheet


class _Block:
    """The part of the sheet that shows one video."""

    def __init__(self, sheet: Image.Image, manifest: Manifest, top: int) -> None:
        self._sheet = sheet
        self._pen = ImageDraw.Draw(sheet)
        self._manifest = manifest
        self._top = top

    def draw(self, video: Looked) -> None:
        """Draw the heading and every step, or the time line of a video that was classified in windows."""
        self._head(video)
        if video.answer.segments is not None:
            self._time_line(video.answer.segments)
            return
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
        if answer.segments is not None:
            told = f"{video.name}  ·  {left.point}: {len(answer.segments)} windows, {len(answer.events or ())} events"
        self._pen.text((_EDGE, self._top + 38), told, _SOFT, _font(14))
        price = f"{cost.gflops:.3g} of {cost.gflops_full:.3g} GFLOPs"
        self._pen.text((right, self._top + 38), price, _SOFT, _font(14), anchor="ra")

    def _time_line(self, segments: Sequence[SegmentAnswer]) -> None:
        """Draw the windows along the video, coloured by label and as high as their score."""
        top, bottom = self._top + _HEAD, self._top + _HEAD + _BAR
        left, right = _EDGE, self._sheet.width - _EDGE
        seconds = max(segments[-1].end_s, 1e-9)
        labels = Counter(segment.predictions[0].label for segment in segments)
        colours = dict(zip((label for label, _ in labels.most_common()), _LABELS, strict=False))
        self._pen.rectangle((left, top, right, bottom), outline=_RULE)
        for segment in segments:
            best = segment.predictions[0]
            begin, end = (left + (right - left) * time / seconds for time in (segment.start_s, segment.end_s))
            height = max(2, round(_BAR * best.score))
            box = (begin, bottom - height, max(begin + 1, end - 1), bottom)
            self._pen.rectangle(box, fill=colours.get(best.label, _RULE))
        self._pen.text((left, bottom + 6), "0 s", _SOFT, _font(13))
        self._pen.text((right, bottom + 6), f"{seconds:.0f} s", _SOFT, _font(13), anchor="ra")
        x = float(left)
        for label, colour in colours.items():
            name = _fitted(_shown(label), _font(13), _TILE)
            self._pen.rectangle((x, bottom + 30, x + _MARK, bottom + 30 + _MARK), fill=colour)
            self._pen.text((x + _MARK + 6, bottom + 28), name, _SOFT, _font(13))
            x += _MARK + 6 + _font(13).getlength(name) + 2 * _GAP

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
