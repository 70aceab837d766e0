"""One-stage training end to end: from labelled videos to checkpoints (arXiv 2112.14238).

Deterministic on the CPU: a run that was killed and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from adafocus.model.checkpoint import save_checkpoint
from adafocus.training.data.augment import Augment
from adafocus.training.data.batches import batches, batches_in_epoch, own_part
from adafocus.training.data.boxes import Points, clip_points, read_boxes
from adafocus.training.data.clips import ClipSet, hold_out
from adafocus.training.data.crop_plan import CropPlan, training_plan
from adafocus.training.data.crops import Broken, Crops
from adafocus.training.data.loading import AnyMoment, Batched, KeptMoments, Loader
from adafocus.training.data.splits import decode_splits
from adafocus.training.data.storage import Sets, plan_storage
from adafocus.training.errors import DataError, DivergedError, RecipeError
from adafocus.training.evaluate.monitor import figures, metric_of
from adafocus.training.evaluate.report import labels_of
from adafocus.training.optimise.initial_weights import Start, initial_weights
from adafocus.training.optimise.losses import CrossEntropy, balanced_class_weights, near_points
from adafocus.training.optimise.objective import ONE_STAGE, Method, Objective, fastest_precision, use_half_precision
from adafocus.training.optimise.optimiser import WeightAverage, learning_rate_factor, make_optimiser, set_learning_rates
from adafocus.training.optimise.parallel import Place, joined
from adafocus.training.recipe import Precision, Recipe
from adafocus.training.run.checkpoint_metadata import metadata
from adafocus.training.run.events import EventLog
from adafocus.training.run.folder import Row, RunFolder, fingerprint
from adafocus.training.run.progress import StepBar
from adafocus.training.run.signals import Stop, stopping_politely
from adafocus.training.run.stage_timer import StageTimer


@dataclass(frozen=True)
class TrainingResult:
    """Result of a finished training: the checkpoint to use, its log, and the clips that could not be used."""

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
    validation: ClipSet | None = None,
) -> TrainingResult:
    """Train a model, or continue one; under ``torchrun``, together with the other processes.

    Args:
        data: the clips to train on; a share of them is held out if the recipe says so.
        recipe: everything else that decides the weights.
        out: run folder; an unfinished run of the same recipe and clips in it is continued.
        cache: folder for decoded crops; None keeps them in memory.
        say: called with one line at a time about the progress.
        initial: where the weights come from before the first step; None as the recipe says.
        device: ``cpu`` or ``cuda``; None takes a GPU if there is one.
        method: the model and the loss; a study may replace the paper's.
        validation: clips to evaluate after each epoch, to keep the best (see `training.evaluate.monitor`); None takes
            the holdout.

    Raises:
        DataError: nothing to learn from, initial weights that do not fit, or no such device.
        ResumeError: ``out`` holds another training.
        DivergedError: the loss is not finite; every epoch that finished before is kept.
        Interrupted: SIGTERM or SIGINT; every finished epoch is kept.
    """
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    trained, holdout = hold_out(data, recipe.parts, recipe.fold) if recipe.parts else (data, data.only(()))
    clips = _as_lines(data)
    if recipe.monitor:
        clips.append(f"best by {recipe.monitor}")
    if validation is not None:
        clips += ["validation", *_as_lines(validation)]
    initial = initial or initial_weights(recipe)
    folder = RunFolder(out, fingerprint(recipe.to_dict(), clips, initial.digests()))
    with joined(device) as place, stopping_politely() as stop:
        trainer = _Trainer(Sets(trained, holdout, validation), recipe, folder, say, place, method)
        trainer.begin(initial)
        trainer.decode(cache, stop)
        trainer.run(stop)
        place.wait()
    return TrainingResult(folder.last, tuple(trainer.progress.history), trainer.splits.broken)


def _as_lines(data: ClipSet) -> list[str]:
    """The class names and the clips, as a run's fingerprint has them."""
    lines = (f"{clip.identity} {clip.all_labels} {clip.group}".rstrip() for clip in data.clips)
    return [*data.labels, *sorted(lines)]


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
        self._sets = sets if place.first else sets._replace(validation=None)  # the first process evaluates for all
        self._recipe = recipe
        self._say = say if place.first else lambda line: None
        self._place = place
        self._method = method
        self._model = method.model(recipe.model_config(len(sets.train.labels)))

    def begin(self, initial: Start) -> None:
        """Initialise weights, optimiser and progress, from the start or from the run folder."""
        recipe, place = self._recipe.optimiser, self._place
        initial.load(self._model)
        # Convolutions train a quarter faster in the channels-last memory format; the weights are the same.
        self._model.to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs
        if recipe.sync_batch_norm and place.world > 1:
            if place.device.type != "cuda":
                raise RecipeError("optimiser.sync_batch_norm is true; torch has it on GPUs only")
            self._model = nn.SyncBatchNorm.convert_sync_batchnorm(self._model)  # type: ignore[no-untyped-call] # torch
        self._average = WeightAverage(self._model, recipe.average)
        self._optimiser = make_optimiser(self._model, recipe, self._recipe.multipliers)
        self.progress = self._folder.resume(self._model, self._average, self._optimiser)
        self._started_from = initial.describe(self._recipe)
        for line in () if self.progress.epoch else (*self._started_from, *initial.warnings(self._recipe)):
            self._say(line)
        precision = self._settle_precision()
        self._scaler = torch.amp.GradScaler(place.device.type, enabled=precision == "fp16")
        if self.progress.scaler:
            self._scaler.load_state_dict(self.progress.scaler)
        use_half_precision(self._model, precision, place.device.type)
        size = self._model.config.frame_size
        self._augment = Augment(self._recipe.data, size, place.device)

    def _settle_precision(self) -> Precision:
        """The recipe's precision, or the run's own, or for a new run the fastest on this machine."""
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
        """Decode every clip before the first epoch."""
        storage = plan_storage(self._sets, self._recipe, cache, self._say)
        if cache and not self._place.first:
            self._place.wait()  # until the first has filled the cache
        self.splits = decode_splits(self._sets, self._recipe, storage, self._say, stop.check)
        if cache and self._place.first:
            self._place.wait()
        if len(self.splits.train.data.clips) < 2 * self._place.world:
            raise DataError("training needs at least two clips that can be decoded for each process")

        plan, learn = training_plan(self._recipe), self.splits.train
        kept = storage.training
        points = self._points(learn, plan)
        moments = KeptMoments(learn, plan, self._method.jitter, points) if kept else AnyMoment(learn, plan, self._say)
        every_label = self._recipe.optimiser.loss == "sigmoid"
        self._load = Loader(learn, moments, self._augment, self._place.device, every_label=every_label)

    def _points(self, learn: Crops, plan: CropPlan) -> list[Points] | None:
        """Where the things of the training clips lie, if the recipe uses boxes.

        Raises:
            DataError: it does, and the data have none.
        """
        if not self._recipe.boxes.used:
            return None
        if learn.data.boxes is None:
            raise DataError("the recipe uses boxes, and the data have none: name a file of boxes in their manifest")
        return clip_points(learn.data.clips, read_boxes(learn.data.boxes), plan)

    def run(self, stop: Stop) -> None:
        """Train the remaining epochs."""
        recipe = self._recipe.optimiser
        if self.progress.epoch:
            self._say(f"continuing after epoch {self.progress.epoch} of {recipe.epochs}")
        weights = self._class_weights()
        cross_entropy = CrossEntropy(recipe.label_smoothing, weights)
        objective = self._method.objective(self._model, self._recipe.remedies, cross_entropy)
        if isinstance(objective, Objective):
            objective.box_weight = self._recipe.boxes.weight
        spread = self._place.spread(objective, every_part_learns=self._recipe.remedies.supervision)
        done, data = self.progress.epoch, self._recipe.data
        steps = batches_in_epoch(len(self.splits.train.data.clips), recipe.batch_size, data.fewest_draws)
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
        """Train one epoch. Its random numbers depend only on the seed and its number, so that it can be repeated."""
        recipe, clock = self._recipe.optimiser, StageTimer()
        random = np.random.default_rng([self._recipe.seed, epoch])
        seed = int(random.integers(2**62))
        torch.manual_seed(seed + self._place.rank)
        data = self._recipe.data
        every = batches(labels_of(self.splits.train.data), recipe.batch_size, data.balance, random, data.fewest_draws)
        if not self._place.first:  # all processes draw the same batches, and each augments its clips differently
            random = np.random.default_rng([self._recipe.seed, epoch, self._place.rank])
        own = [own_part(batch, self._place.rank, self._place.world) for batch in every]
        self._model.train()
        sums: dict[str, float] = {}
        start = time.perf_counter()
        for number, batch in enumerate(self._load(own, random, clock)):
            stop.check()
            factor = learning_rate_factor(epoch * len(every) + number, len(every), recipe)
            set_learning_rates(self._optimiser, recipe, self._recipe.multipliers, factor)
            done = self._step(batch, objective, clock)
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
            evaluated = self._evaluate() if self._place.first else {}
        return {"epoch": epoch + 1, **sums, **evaluated, "train_s": round(seconds, 3), **clock.row()}

    def _step(self, batch: Batched, objective: nn.Module, clock: StageTimer) -> dict[str, float]:
        frames, labels, points = batch
        config, boxes = self._model.config, self._recipe.boxes
        with clock("forward"):
            centres = torch.rand(frames.shape[0], config.steps, 2).to(self._place.device)
            if points is None:
                loss = objective(frames, labels, centres)
            else:
                if boxes.explore:
                    centres = near_points(centres, points, config.patch_size / config.frame_size, boxes.spread)
                loss = objective(frames, labels, centres, points)
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
        if boxes.weight:
            named["boxes"] = loss.boxes
        return {name: float(value.detach()) for name, value in {**named, "patch_spread": spread}.items()}

    def _class_weights(self) -> torch.Tensor | None:
        strength = self._recipe.optimiser.class_weights
        if not strength:
            return None
        return balanced_class_weights(torch.tensor(self.splits.train.data.counts()), strength).to(self._place.device)

    def _evaluate(self) -> dict[str, float]:
        """Return the metrics of the kept weights on the clips that are evaluated after each epoch."""
        evaluated = self.splits.evaluated
        if evaluated is None:
            return {}
        metric, loss = metric_of(self._recipe, evaluated.data), self._recipe.optimiser.loss
        found = figures(self._average.module, evaluated, metric, loss)
        return {f"{self.splits.column_prefix}{name}": value for name, value in found.items()}

    def _keep(self, row: Row) -> None:
        """Write checkpoints, then the state; a kill in between repeats the epoch and writes them again."""
        self.progress.epoch += 1
        self.progress.history.append(row)
        if not self._place.first:
            return
        self.progress.scaler = self._scaler.state_dict()
        size = self._model.config.frame_size
        kept = metadata(self._recipe, self.splits, self.progress, size, self._started_from)
        save_checkpoint(self._folder.last, self._average.module, **kept)
        score = row.get(f"{self.splits.column_prefix}{metric_of(self._recipe, self._sets.train)}")
        if score is not None and score >= self.progress.best:
            self.progress.best = score
            save_checkpoint(self._folder.best, self._average.module, **kept)
        self._folder.save(self.progress, self._model, self._average, self._optimiser)
