"""One-stage training end to end: from labelled videos to checkpoints (PAPER sections 2 and 4).

Deterministic on the CPU: a run that was killed and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from model.checkpoint import save_checkpoint
from training.data.augment import Augment
from training.data.batches import Batch, batches, batches_in_epoch, drawn_labels, own_part
from training.data.clips import ClipSet, hold_aside
from training.data.crops import Broken, training_plan
from training.data.prefetch import ahead
from training.data.splits import Sets, decode_parts
from training.errors import DataError, DivergedError, RecipeError
from training.evaluate.monitor import figures, metric_of
from training.evaluate.report import labels_of
from training.optimise.initial_weights import InitialWeights, Start
from training.optimise.losses import CrossEntropy, balanced_class_weights
from training.optimise.objective import ONE_STAGE, Method, use_half_precision
from training.optimise.optimiser import WeightAverage, learning_rate_factor, make_optimiser, set_learning_rates
from training.optimise.parallel import Place, joined
from training.optimise.precision import fastest_precision
from training.recipe import Precision, Recipe
from training.run.checkpoint_metadata import metadata
from training.run.events import EventLog
from training.run.folder import Row, RunFolder, fingerprint
from training.run.progress import StepBar
from training.run.signals import Stop, stopping_politely
from training.run.stage_timer import Clock


@dataclass(frozen=True)
class Outcome:
    """What a finished training leaves: the checkpoint to use, its log, and the clips that could not be used."""

    checkpoint: Path
    history: tuple[Row, ...]
    broken: tuple[Broken, ...]


def train(
    data: ClipSet,
    recipe: Recipe,
    out: Path,
    cache: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
    initial: Start | None = None,
    device: str | None = None,
    method: Method = ONE_STAGE,
    watched: ClipSet | None = None,
) -> Outcome:
    """Train a model, or continue one; under ``torchrun``, together with the other processes.

    Args:
        data: the clips to learn from; a share of them is held aside if the recipe says so.
        recipe: everything else that decides the weights.
        out: run folder; an unfinished run of the same recipe and clips in it is continued.
        cache: folder for decoded crops; None keeps them in memory.
        say: told one line at a time what happens.
        initial: files with weights to start the networks from.
        device: ``cpu`` or ``cuda``; None takes a GPU if there is one.
        method: what is trained and by which loss; a study may put something else in the paper's place.
        watched: clips to judge after each epoch and keep the best by (see `training.evaluate.monitor`); None takes
            those held aside.

    Raises:
        DataError: nothing to learn from, initial weights that do not fit, or no such device.
        ResumeError: ``out`` holds another training.
        DivergedError: the loss is no number any more; every epoch finished before is kept.
        Interrupted: SIGTERM or SIGINT; every finished epoch is kept.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    learn, aside = hold_aside(data, recipe.parts, recipe.fold) if recipe.parts else (data, data.only(()))
    clips = _as_lines(data)
    if recipe.best_by:
        clips.append(f"best by {recipe.best_by}")
    if watched is not None:
        clips += ["watched", *_as_lines(watched)]
    initial = initial or InitialWeights()
    folder = RunFolder(out, fingerprint(recipe.to_dict(), clips, initial.digests()))
    with joined(device) as place, stopping_politely() as stop:
        trainer = _Trainer(Sets(learn, aside, watched), recipe, folder, say, place, method)
        trainer.begin(initial)
        trainer.decode(cache, stop)
        trainer.run(stop)
        place.wait()
    return Outcome(folder.last, tuple(trainer.progress.history), trainer.parts.broken)


def _as_lines(data: ClipSet) -> list[str]:
    return [*data.labels, *sorted(f"{clip.identity} {clip.all_labels}" for clip in data.clips)]


class _Trainer:
    """The state of a training between its steps."""

    def __init__(
        self,
        sets: Sets,
        recipe: Recipe,
        folder: RunFolder,
        say: Callable[[str], None],
        place: Place,
        method: Method,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self._folder = folder
        self._sets = sets if place.first else sets._replace(watched=None)  # the first judges for all
        self._recipe = recipe
        self._say = say if place.first else lambda line: None
        self._place = place
        self._method = method
        self._model = method.model(recipe.model_config(len(sets.learn.labels)))

    def begin(self, initial: Start) -> None:
        """Weights, optimiser and progress: from the start, or from where the run folder stands."""
        recipe, place = self._recipe.optimiser, self._place
        initial.load(self._model)
        # Convolutions learn a quarter faster with the channels of a pixel side by side; the weights are the same.
        self._model.to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe.sync_batch_norm and place.world > 1:
            if place.device.type != "cuda":
                raise RecipeError("optimiser.sync_batch_norm is true; torch has it on GPUs only")
            self._model = nn.SyncBatchNorm.convert_sync_batchnorm(self._model)  # type: ignore[no-untyped-call]
        self._average = WeightAverage(self._model, recipe.average)
        self._optimiser = make_optimiser(self._model, recipe, self._recipe.multipliers)
        self.progress = self._folder.resume(self._model, self._average, self._optimiser)
        precision = self._settle_precision()
        self._scaler = torch.amp.GradScaler(place.device.type, enabled=precision == "fp16")
        if self.progress.scaler:
            self._scaler.load_state_dict(self.progress.scaler)
        use_half_precision(self._model, precision, place.device.type)
        size = self._model.config.frame_size
        self._augment = Augment(training_plan(self._recipe), self._recipe.data, size, place.device)

    def _settle_precision(self) -> Precision:
        """The recipe's, or what the run began in, or for a new run what suits this machine."""
        asked, begun = self._recipe.optimiser.precision, self.progress.precision
        if asked == "auto":
            fastest = fastest_precision(self._place.device)
            asked = begun or fastest
            why = "as the run began" if begun else "the fastest here, kept for the whole run"
            self._say(
                f"precision {asked}: {why}" + (f"; this machine would take {fastest}" if asked != fastest else "")
            )
        self.progress.precision = asked
        return asked

    def decode(self, cache: Path | None, stop: Stop) -> None:
        """Decode every clip that is needed, before the first epoch rather than in it."""
        if cache and not self._place.first:
            self._place.wait()  # until the first has filled the cache
        self.parts = decode_parts(self._sets, self._recipe, cache, self._say, stop.check)
        if cache and self._place.first:
            self._place.wait()
        if len(self.parts.learn.data.clips) < 2 * self._place.world:
            raise DataError("at least two clips that can be decoded are needed to learn from, for each process")

    def run(self, stop: Stop) -> None:
        """The epochs that are left."""
        recipe = self._recipe.optimiser
        if self.progress.epoch:
            self._say(f"continuing after epoch {self.progress.epoch} of {recipe.epochs}")
        weights = self._class_weights()
        cross_entropy = CrossEntropy(recipe.label_smoothing, weights)
        objective = self._method.objective(self._model, self._recipe.remedies, cross_entropy)
        spread = self._place.spread(objective, every_part_learns=self._recipe.remedies.supervision)
        done, data = self.progress.epoch, self._recipe.data
        steps = batches_in_epoch(len(self.parts.learn.data.clips), recipe.batch_size, data.fewest_draws)
        log = EventLog(self._folder.events if self._place.first and done < recipe.epochs else None, done)
        with log, StepBar(recipe.epochs, steps, self.progress.history, hidden=not self._place.first) as bar:
            while self.progress.epoch < recipe.epochs:
                bar.begin_epoch(self.progress.epoch + 1)
                row = self._epoch(self.progress.epoch, spread, stop, bar.step)
                self._keep(row)
                log.write(row)
                bar.end_epoch(row)
                bar.above(self._say, "  ".join(f"{key} {value:.4g}" for key, value in row.items()))

    def _epoch(self, epoch: int, objective: nn.Module, stop: Stop, stepped: Callable[[], None]) -> Row:
        """One pass. All its random numbers come from the seed and its number, so that it can be repeated alone."""
        recipe, clock = self._recipe.optimiser, Clock()
        random = np.random.default_rng([self._recipe.seed, epoch])
        seed = int(random.integers(2**62))
        torch.manual_seed(seed + self._place.rank)
        data = self._recipe.data
        every = batches(labels_of(self.parts.learn), recipe.batch_size, data.balance, random, data.fewest_draws)
        if not self._place.first:  # the batches are the same for all, what is done to their clips is not
            random = np.random.default_rng([self._recipe.seed, epoch, self._place.rank])
        self._model.train()
        sums: dict[str, float] = {}
        start = time.perf_counter()
        for number, (frames, labels) in enumerate(self._loaded(every, random, clock)):
            stop.check()
            factor = learning_rate_factor(epoch * len(every) + number, len(every), recipe)
            set_learning_rates(self._optimiser, recipe, self._recipe.multipliers, factor)
            done = self._step(frames, labels, objective, clock)
            if not math.isfinite(done["loss"]):
                raise DivergedError(
                    f"the loss is {done['loss']} in step {number + 1} of epoch {epoch + 1}; try a smaller optimiser.lr "
                    "or optimiser.clip_gradient. Every epoch before is kept"
                )
            for name, value in done.items():
                sums[name] = sums.get(name, 0.0) + value / len(every)
            stepped()
        seconds = time.perf_counter() - start
        with clock("evaluate"):
            watched = self._watch() if self._place.first else {}
        return {"epoch": epoch + 1, **sums, **watched, "train_s": round(seconds, 3), **clock.row()}

    def _loaded(
        self, every: Sequence[Batch], random: np.random.Generator, clock: Clock
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's part of each batch, made while the one before it is learned from."""

        def load(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
            own = own_part(batch, self._place.rank, self._place.world)
            frames = self._augment([self.parts.learn.pixels[index] for index in own], random)
            labels = drawn_labels([self.parts.learn.data.clips[index] for index in own], random)
            return frames, torch.tensor(labels, device=self._place.device)

        with ThreadPoolExecutor(1) as pool:  # one: random numbers are drawn in the order of the batches
            coming = ahead(pool, load, every, depth=1)
            while True:
                with clock("load"):
                    ready = next(coming, None)
                if ready is None:
                    return
                yield ready

    def _step(self, frames: torch.Tensor, labels: torch.Tensor, objective: nn.Module, clock: Clock) -> dict[str, float]:
        with clock("forward"):
            centres = torch.rand(frames.shape[0], self._model.config.steps, 2).to(self._place.device)
            loss = objective(frames, labels, centres)
        with clock("backward"):
            self._optimiser.zero_grad(set_to_none=True)
            self._scaler.scale(loss.total).backward()
            if self._recipe.optimiser.clip_gradient:
                self._scaler.unscale_(self._optimiser)
                torch.nn.utils.clip_grad_norm_(self._model.parameters(), self._recipe.optimiser.clip_gradient)
            self._scaler.step(self._optimiser)
            self._scaler.update()
            self._average.update()
        named = {"loss": loss.total, "steps": loss.steps, "glance": loss.glance, "focus": loss.focus}
        spread = loss.patch_centres.flatten(0, 1).std(dim=0).mean()
        return {name: float(value.detach()) for name, value in {**named, "patch_spread": spread}.items()}

    def _class_weights(self) -> torch.Tensor | None:
        strength = self._recipe.optimiser.class_weights
        if not strength:
            return None
        return balanced_class_weights(torch.tensor(self.parts.learn.data.counts()), strength).to(self._place.device)

    def _watch(self) -> dict[str, float]:
        """How the kept weights do on the clips that are watched."""
        judged = self.parts.judged
        if judged is None:
            return {}
        found = figures(self._average.module, judged, metric_of(self._recipe, judged.data))
        return {f"{self.parts.judged_as}{name}": value for name, value in found.items()}

    def _keep(self, row: Row) -> None:
        """Write checkpoints, then the state; a kill in between repeats the epoch and writes them again."""
        self.progress.epoch += 1
        self.progress.history.append(row)
        if not self._place.first:
            return
        self.progress.scaler = self._scaler.state_dict()
        kept = metadata(self._recipe, self.parts, self.progress, self._model.config.frame_size)
        save_checkpoint(self._folder.last, self._average.module, **kept)
        score = row.get(f"{self.parts.judged_as}{metric_of(self._recipe, self._sets.learn)}")
        if score is not None and score >= self.progress.best:
            self.progress.best = score
            save_checkpoint(self._folder.best, self._average.module, **kept)
        self._folder.save(self.progress, self._model, self._average, self._optimiser)
