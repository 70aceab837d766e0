"""One-stage training end to end: from labelled videos to checkpoints (PAPER section 2).

Deterministic on the CPU: a run that was killed and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from model.adafocus import AdaFocus
from model.checkpoint import save_checkpoint
from training.augment import Augment
from training.crops import Broken, Crops, decode_all, serving_plan, training_plan
from training.data import ClipSet, hold_aside
from training.errors import DataError
from training.evaluate import labels_of, predict, truth_of
from training.losses import CrossEntropy, balanced_class_weights, one_stage_loss
from training.metrics import accuracy, macro_f1, negative_log_likelihood, one_label
from training.optimise import WeightAverage, learning_rate_factor, make_optimiser, set_learning_rates
from training.recipe import Recipe
from training.run import Row, RunFolder, fingerprint
from training.stopping import Stop, stopping_politely


@dataclass(frozen=True)
class Outcome:
    """What a finished training leaves: the checkpoint to use, its log, and the clips that could not be used."""

    checkpoint: Path
    history: tuple[Row, ...]
    broken: tuple[Broken, ...]


@dataclass
class _Clock:
    """Seconds per stage of an epoch: where the time goes."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def train(
    data: ClipSet,
    recipe: Recipe,
    out: Path,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Train a model, or continue one.

    Args:
        data: the clips to learn from; a share of them is held aside if the recipe says so.
        recipe: everything else that decides the weights.
        out: run folder; an unfinished run of the same recipe and clips in it is continued.
        cache: folder for decoded crops; None keeps them in memory.
        say: told one line at a time what happens.

    Raises:
        DataError: nothing to learn from.
        ResumeError: ``out`` holds another training.
        Interrupted: SIGTERM or SIGINT; every finished epoch is kept.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    learn, aside = hold_aside(data, recipe.parts, recipe.fold) if recipe.parts else (data, data.only(()))
    trainer = _Trainer(learn, aside, recipe, RunFolder(out, fingerprint(recipe.to_dict(), _identities(data))), say)
    with stopping_politely() as stop:
        trainer.decode(cache)
        trainer.run(stop)
    return Outcome(trainer.folder.last, tuple(trainer.progress.history), trainer.broken)


def _identities(data: ClipSet) -> list[str]:
    return sorted(clip.identity for clip in data.clips)


class _Trainer:
    """The state of a training between its steps."""

    def __init__(
        self, learn: ClipSet, aside: ClipSet, recipe: Recipe, folder: RunFolder, say: Callable[[str], None]
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.folder = folder
        self.broken: tuple[Broken, ...] = ()
        self._sets = (learn, aside)
        self._recipe = recipe
        self._say = say
        self._model = AdaFocus(recipe.model_config(len(learn.labels)))
        self._average = WeightAverage(self._model, recipe.optimiser.average)
        self._optimiser = make_optimiser(self._model, recipe.optimiser, recipe.multipliers)
        self.progress = folder.resume(self._model, self._average, self._optimiser)
        self._augment = Augment(training_plan(recipe), recipe.data, self._model.config.frame_size)

    def decode(self, cache: Path | None) -> None:
        """Decode every clip that is needed, before the first epoch rather than in it."""
        learn, aside = self._sets
        start = time.perf_counter()
        self._crops = decode_all(learn, training_plan(self._recipe), cache, self._report)
        self._aside: Crops | None = None
        if aside.clips:
            self._aside = decode_all(aside, serving_plan(self._recipe), cache, self._report)
        self.broken = self._crops.broken + (self._aside.broken if self._aside else ())
        kept = self._crops.data
        counts = ", ".join(f"{name} {count}" for name, count in zip(kept.labels, kept.counts(), strict=True))
        self._say(
            f"decoded {len(kept.clips)} clips to learn from ({counts}) and "
            f"{len(self._aside.data.clips) if self._aside else 0} held aside in {time.perf_counter() - start:.1f} s; "
            f"{len(self.broken)} skipped as broken"
        )
        if len(kept.clips) < 2:
            raise DataError("at least two clips that can be decoded are needed to learn from")

    def _report(self, broken: Broken) -> None:
        self._say(f"skipped {broken.path}: {broken.reason}")

    def run(self, stop: Stop) -> None:
        """The epochs that are left."""
        recipe = self._recipe.optimiser
        if self.progress.epoch:
            self._say(f"continuing after epoch {self.progress.epoch} of {recipe.epochs}")
        bar = tqdm(
            total=recipe.epochs, initial=self.progress.epoch, unit="epoch", disable=not sys.stderr.isatty(), leave=False
        )
        with bar:
            while self.progress.epoch < recipe.epochs:
                row = self._epoch(self.progress.epoch, stop)
                self._keep(row)
                bar.update()
                self._say("  ".join(f"{key} {value:.4g}" for key, value in row.items()))

    def _epoch(self, epoch: int, stop: Stop) -> Row:
        """One pass. All its random numbers come from the seed and its number, so that it can be repeated alone."""
        recipe, clock = self._recipe.optimiser, _Clock()
        random = np.random.default_rng([self._recipe.seed, epoch])
        torch.manual_seed(int(random.integers(2**62)))
        batches = _batches(labels_of(self._crops), recipe.batch_size, self._recipe.data.balance, random)
        loss_of = CrossEntropy(recipe.label_smoothing, self._class_weights())
        self._model.train()
        sums: dict[str, float] = {}
        start = time.perf_counter()
        for number, batch in enumerate(batches):
            stop.check()
            step = epoch * len(batches) + number
            factor = learning_rate_factor(step, len(batches), recipe)
            set_learning_rates(self._optimiser, recipe, self._recipe.multipliers, factor)
            for name, value in self._step(batch, loss_of, random, clock).items():
                sums[name] = sums.get(name, 0.0) + value / len(batches)
        seconds = time.perf_counter() - start
        with clock("evaluate"):
            watched = self._watch()
        times = {f"{stage}_s": round(value, 3) for stage, value in clock.seconds.items()}
        return {"epoch": epoch + 1, **sums, **watched, "train_s": round(seconds, 3), **times}

    def _step(
        self, batch: npt.NDArray[np.int64], loss_of: CrossEntropy, random: np.random.Generator, clock: _Clock
    ) -> dict[str, float]:
        with clock("load"):
            frames = self._augment([self._crops.pixels[index] for index in batch], random)
            labels = torch.tensor([self._crops.data.clips[index].label for index in batch])
        with clock("forward"):
            centres = torch.rand(frames.shape[0], frames.shape[1], 2)
            loss = one_stage_loss(self._model, frames, labels, centres, self._recipe.remedies, loss_of)
        with clock("backward"):
            self._optimiser.zero_grad(set_to_none=True)
            loss.total.backward()  # type: ignore[no-untyped-call]
            if self._recipe.optimiser.clip_gradient:
                torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.optimiser.clip_gradient)
            self._optimiser.step()
            self._average.update()
        named = {"loss": loss.total, "steps": loss.steps, "glance": loss.glance, "focus": loss.focus}
        spread = loss.patch_centres.std(dim=(0, 1)).mean()
        return {name: float(value.detach()) for name, value in {**named, "patch_spread": spread}.items()}

    def _class_weights(self) -> torch.Tensor | None:
        strength = self._recipe.optimiser.class_weights
        return balanced_class_weights(torch.tensor(self._crops.data.counts()), strength) if strength else None

    def _watch(self) -> dict[str, float]:
        """How the kept weights do on the clips held aside."""
        if self._aside is None:
            return {}
        logits, labels = predict(self._average.module, self._aside), truth_of(self._aside)
        predicted = logits[:, -1].argmax(axis=1)
        return {
            "aside_accuracy": accuracy(predicted, labels),
            "aside_macro_f1": macro_f1(predicted, one_label(predicted, labels), logits.shape[2]),
            "aside_nll": negative_log_likelihood(logits, labels),
        }

    def _keep(self, row: Row) -> None:
        """Write checkpoints, then the state; a kill in between repeats the epoch and writes them again."""
        self.progress.epoch += 1
        self.progress.history.append(row)
        metadata = self._metadata(row)
        save_checkpoint(self.folder.last, self._average.module, **metadata)
        score = row.get("aside_macro_f1")
        if score is not None and score >= self.progress.best:
            self.progress.best = score
            save_checkpoint(self.folder.best, self._average.module, **metadata)
        self.folder.save(self.progress, self._model, self._average, self._optimiser)

    def _metadata(self, row: Row) -> dict[str, object]:
        """What evaluation, calibration and export need to know beside the weights."""
        recipe, learn = self._recipe, self._crops.data
        aside = self._aside.data.clips if self._aside else ()
        source = learn.source
        return {
            "labels": list(learn.labels),
            "geometry": {"resize": recipe.data.resize, "crop": self._model.config.frame_size},
            "sampling": {"first_frame": recipe.data.first_frame},
            "provenance": {
                "data": source.get("name", "unnamed"),
                "data_source": source.get("source"),
                "data_licence": source.get("licence"),
                "recipe": recipe.name,
                "seed": recipe.seed,
                "metrics": {key: value for key, value in row.items() if key.startswith("aside_")},
                "notes": f"{len(learn.clips)} clips learned from, {len(aside)} held aside",
            },
            "recipe": recipe.to_dict(),
            "epoch": int(row["epoch"]),
            "learned_from": [clip.identity for clip in learn.clips],
            "held_aside": [clip.identity for clip in aside],
        }


def _batches(
    labels: npt.NDArray[np.int64], size: int, balance: float, random: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Clip indices of every batch of an epoch, which is as long as the data; the remainder waits for the next one.

    Without balance every clip comes at most once. With it clips are drawn with a chance that grows with the rarity of
    their class, ``count**-balance``.
    """
    size = min(size, len(labels))
    number = len(labels) // size
    if balance:
        chance = np.bincount(labels)[labels].astype(np.float64) ** -balance
        drawn = random.choice(len(labels), size=number * size, p=chance / chance.sum())
    else:
        drawn = random.permutation(len(labels))[: number * size]
    return [np.asarray(part, dtype=np.int64) for part in np.split(drawn, number)]
