"""Tables of docs/evidence.md on the study of ``sky``, from its newest measurements."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.machine import newest_results

Rows = Sequence[dict[str, str]]

WORDS = {
    "recipe": "the method as the recipe `sky` trains it",
    "recipe box": "the same networks, patch on the true box (upper bound)",
    "method": "the method, trained as the arms below",
    "box": "the same networks, patch on the true box (upper bound)",
    "middle": "patch in the middle, without a glance",
    "glance128": "no patch: the network on the whole frame at 128",
    "glance256": "no patch: the network on the whole frame at 256",
    "tsm256": "the same network with temporal shift (TSM)",
    "full512at2": "no glance: the network on the full frame at 512, 2 frames",
    "full512": "the same, 8 frames",
}
RULES = {
    "mean": "mean of the logits, as shipped now",
    "mean probability": "mean of the probabilities",
    "middle of extremes": "middle between the largest and the smallest logit, as shipped before",
    "maximum": "largest logit",
}
RISKS = {"answer_changed": "another answer than `full`'s", "right_answer_lost": "a right answer lost"}


PLACES = {
    "policy": "where the policy looks",
    "middle": "always in the middle",
    "box": "on the true box",
}
"""The places of the patch in the words of the pages, by the arm of `benchmarks.evidence.sky`."""


def patch_table(results: str) -> str:
    """Accuracy on unseen backgrounds by place of the patch, from results of `benchmarks.evidence.sky`."""
    rows = {(row["subset"], row["arm"]): row for row in newest_results(results)}
    lines = ["| patch | all | close and medium | distant | the patch holds the thing |", "|---|---|---|---|---|"]
    for arm, words in PLACES.items():
        cells = []
        for subset in ("all", "close and medium", "distant"):
            row = rows[subset, arm]
            low, high = float(row["low"]), float(row["high"])
            cells.append(f"{float(row['accuracy']):.3f} ({low:.2f} to {high:.2f})")
        share = float(rows["all", arm]["patch_holds_thing"])
        lines.append(f"| {words} | {' | '.join(cells)} | in {share:.0%} of the frames |")
    return "\n".join(lines)


def claim_table() -> str:
    """Accuracy of every arm over all folds, and what the method gains on the same clips."""
    rows = newest_results("evidence-sky-claim")
    times = {row["arm"]: row["ms"] for row in newest_results("evidence-sky-times")}
    lines = [
        "| the network sees | GFLOPs | ms | clips | seeds | all | macro-F1 | close and medium | distant | "
        "method gains: all | close and medium |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, words in WORDS.items():
        own = {row["subset"]: row for row in rows if row["arm"] == arm}
        if not own:
            continue
        every, near, far = (own[name] for name in ("all", "close and medium", "distant"))
        gains = [_gain(row) if arm not in ("method", "recipe", "recipe box") else "" for row in (every, near)]
        cost = times.get(arm, times["method"])  # those of the method differ in nothing that takes time
        cells = [
            words, f"{float(every['gflops']):.2f}", f"{float(cost):.0f}", every["clips"], every["seeds"],
            _interval(every), f"{float(every['macro_f1']):.2f}", _interval(near), _interval(far), *gains,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(row: dict[str, str]) -> str:
    return f"{float(row['accuracy']):.3f} ({float(row['low']):.2f} to {float(row['high']):.2f})"


def _gain(row: dict[str, str]) -> str:
    """Points gained, with the intervals over clips and over sessions."""
    names = ("method_gains", "clips_low", "clips_high", "gains_low", "gains_high")
    gain, *ends = (f"{100 * float(row[name]):+.0f}" for name in names)
    return f"{gain} ({ends[0]} to {ends[1]}; {ends[2]} to {ends[3]})"


def subsets_table() -> str:
    """Accuracy of the method by sensor and distance, and how often its patch holds the thing."""
    rows = newest_results("evidence-sky-claim")
    arm = "recipe" if any(row["arm"] == "recipe" for row in rows) else "method"
    rows = [row for row in rows if row["arm"] == arm]
    lines = ["| clips | how many | accuracy | macro-F1 | the patch holds the thing |", "|---|---|---|---|---|"]
    lines += [
        f"| {row['subset']} | {row['clips']} | {_interval(row)} | {float(row['macro_f1']):.2f} | "
        f"in {100 * float(row['patch_holds_thing']):.0f}% of the frames |"
        for row in rows
    ]
    return "\n".join(lines)


def folds_table() -> str:
    """Accuracy of every arm in each fold."""
    rows = newest_results("evidence-sky-folds")
    arms = [arm for arm in WORDS if any(row["arm"] == arm for row in rows)]
    folds = sorted({row["fold"] for row in rows})
    lines = [
        f"| fold | clips | {' | '.join(arms)} |",
        "|---|---|" + "---|" * len(arms),
    ]
    for fold in folds:
        own = {row["arm"]: row for row in rows if row["fold"] == fold}
        cells = [
            f"{float(own[arm]['accuracy']):.3f}, {float(own[arm]['close_and_medium']):.3f}" if arm in own else "not run"
            for arm in arms
        ]
        lines.append(f"| {fold} | {own['method']['clips']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def classes_table() -> str:
    """How much of each class every arm has right, and how often it says that class, of all clips."""
    rows = newest_results("evidence-sky-classes")
    labels = list(dict.fromkeys(row["class"] for row in rows))
    counts = {row["class"]: row["clips"] for row in rows if row["arm"] == "method"}
    heads = " | ".join(f"{label}, {counts[label]} clips" for label in labels)
    lines = [f"| the network sees | {heads} |", "|---" * (len(labels) + 1) + "|"]
    for arm, words in WORDS.items():
        own = {row["class"]: row for row in rows if row["arm"] == arm}
        if own:
            cells = [f"{float(own[label]['accuracy']):.2f}, {100 * float(own[label]['said']):.0f}%" for label in labels]
            lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rates_table() -> str:
    """Accuracy of arms that were trained at several rates, at each and with the one that the other folds choose."""
    rows = newest_results("evidence-sky-rates")
    rates = list(dict.fromkeys(row["rate"] for row in rows if row["rate"] != "rule"))
    lines = [
        f"| the network sees | {' | '.join(rates)} | chosen by the other folds | the rates that they choose |",
        "|---" * (len(rates) + 3) + "|",
    ]
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = {row["rate"]: row for row in rows if row["arm"] == arm}
        cells = [
            f"{float(own[rate]['accuracy']):.3f}, {float(own[rate]['close_and_medium']):.3f}" if rate in own else ""
            for rate in (*rates, "rule")
        ]
        lines.append(f"| {WORDS[arm]} | {' | '.join(cells)} | {', '.join(own['rule']['by_fold'].split())} |")
    return "\n".join(lines)


def pooling_table() -> str:
    """Accuracy of the ways to join the frames, on the same logits."""
    rows = newest_results("evidence-sky-pooling")
    folds = sorted({row["fold"] for row in rows if row["fold"] != "all"})
    lines = [
        "| the answer is the | clips | all | close and medium | the mean gains | "
        + " | ".join(f"fold {fold}" for fold in folds)
        + " |",
        "|---|---|---|---|---|" + "---|" * len(folds),
    ]
    for rule, words in RULES.items():
        own = {row["fold"]: row for row in rows if row["rule"] == rule}
        every = own["all"]
        gain, low, high = (100 * float(every[name]) for name in ("mean_gains", "gains_low", "gains_high"))
        lines.append(
            f"| {words} | {every['clips']} | {float(every['accuracy']):.3f} | {float(every['close_and_medium']):.3f} | "
            f"{f'{gain:+.1f} points ({low:+.1f} to {high:+.1f})' if rule != 'mean' else ''} | "
            f"{' | '.join(format(float(own[fold]['accuracy']), '.3f') for fold in folds)} |"
        )
    return "\n".join(lines)


def certified_table() -> str:
    """Operating points of the method, and what was certified of them."""
    lines = ["| a failure is | point | share of `full`'s compute | accuracy | promise |", "|---|---|---|---|---|"]
    for row in newest_results("evidence-sky-certified"):
        promise = "none"
        if row["epsilon"]:
            promise = (
                f"at most {100 * float(row['epsilon']):g}% fail; {row['failures']} of {row['tested']} tested clips did"
            )
        lines.append(
            f"| {RISKS[row['risk']]} | `{row['point']}` | {100 * float(row['share_of_full']):.0f}% | "
            f"{float(row['accuracy']):.3f} | {promise} |"
        )
    return "\n".join(lines)
