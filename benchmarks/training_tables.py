"""The tables of docs/training.md, from the newest results."""

from __future__ import annotations

from pathlib import Path

from benchmarks.machine import newest_results

STAGES = ("load_s", "forward_s", "backward_s", "evaluate_s")


def training_time() -> str:
    """Seconds of an epoch, and of decoding."""
    lines = ["| | seconds |", "|---|---|"]
    for row in newest_results("training-time"):
        if row["what"].startswith("decode"):
            lines.append(f"| {row['what']} | {float(row['train_s']):.2f} |")
        elif row["what"] == "cache MB":
            lines[-1] = lines[-1].replace("decode cached", f"decode cached ({row['train_s']} MB on disk)")
        elif row["what"] == "epoch all":
            parts = " · ".join(f"{float(row[part]):.2f}" for part in STAGES)
            threads = "1 thread" if row["threads"] == "1" else f"{row['threads']} threads"
            what = f"an epoch, {row['precision']}, {threads}: waiting for batches · forward · backward · judging"
            lines.append(f"| {what} | {parts} |")
    return "\n".join(lines)


def jpeg_cache() -> str:
    """Error, size and time of frames kept as JPEG."""
    lines = [
        "| frames | chroma | quality | bytes per pixel (raw: 3) | mean error, grey levels | … as the model sees it "
        "| decode, ms a frame |",
        "|---|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row['data']}, {row['side']}² | {row['chroma']} | {row['quality']} | {float(row['bytes_per_pixel']):.2f} "
        f"| {float(row['mean_error']):.2f} | {float(row['mean_error_shrunk']):.2f} | {float(row['decode_ms']):.1f} |"
        for row in newest_results("jpeg-cache")
        if row["quality"] != "98" and (row["chroma"] == "4:4:4" or row["quality"] == "95")
    )
    return "\n".join(lines)


NAMES = {"actnet_mbv2_p128": "ActivityNet", "minik_mbv2_p128": "Mini-Kinetics", "sthv2_tsm_p128": "Sth-Sth V2"}


def training_room() -> str:
    """Space for the clips of published data sets, and time to read one."""
    rows = newest_results("training-room")
    sets = list(dict.fromkeys(row["recipe"] for row in rows))
    head = " | ".join(f"{NAMES[name]}, GB" for name in sets)
    lines = [f"| kept of each segment | MB a clip | {head} | ms a clip: video · folder of frames |"]
    lines.append("|---" * (3 + len(sets)) + "|")
    for way in dict.fromkeys(row["kept"] for row in rows):
        own = {row["recipe"]: row for row in rows if row["kept"] == way}
        first = own[sets[0]]
        space = " | ".join(f"{float(own[name]['gb']):,.0f}" for name in sets)
        time = f"{float(first['video_ms']):.0f} · {float(first['frames_ms']):.0f}"
        lines.append(f"| {way} | {float(first['mb_per_clip']):.1f} | {space} | {time} |")
    return "\n".join(lines)


PAGES = {
    Path("docs/training.md"): {
        "training_time": training_time,
        "jpeg_cache": jpeg_cache,
        "training_room": training_room,
    }
}
