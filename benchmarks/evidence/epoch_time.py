"""Wall time of an epoch, in one stage and in each of the four: phases take turns, medians over rounds.

    python -m benchmarks.evidence.epoch_time DATA --config tank_state --cache runs/evidence/tank_state/cache

Trainings of the study are paused and share the machine; this measures on one that does nothing else.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.evidence.arms import ONE_STAGE, STAGES, Arm
from benchmarks.machine import write_results
from training.manifests import list_clips
from training.recipe import load_recipe
from training.train import train


def main() -> None:
    """Measure and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    data = list_clips(options.data, "train")
    recipe = load_recipe(options.config)
    short = recipe.with_options(epochs=2, precision=options.precision)
    phases, arm = (*ONE_STAGE, *STAGES), Arm()
    seconds: dict[str, list[float]] = {phase.name: [] for phase in phases}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for phase in phases:
                out = Path(folder) / f"{phase.name}{number}"
                done = train(data, short, out, options.cache, device="cpu", method=arm.method(phase))
                seconds[phase.name].append(done.history[-1]["train_s"])  # the first epoch warms up
    rows = [
        {
            "data": data.source.get("name", "clips"),
            "phase": phase.name,
            "share_of_epochs": phase.share,
            "epoch_s": round(statistics.median(seconds[phase.name]), 3),
            "rounds": options.rounds,
        }
        for phase in phases
    ]
    print(rows)
    print(write_results("evidence-epoch-time", data.source.get("name", "clips"), rows))


if __name__ == "__main__":
    main()
