"""The exceptions of training. The command line prints each as one line.

TrainingError
├── RecipeError        a recipe (configuration) that cannot be used
├── DataError          labelled videos that cannot be listed, split or read
├── ResumeError        a run folder that belongs to another recipe or cannot be read
├── DivergedError      a loss that is not a finite number
└── CalibrationError   confidences or budgets for which thresholds cannot be solved
"""

from __future__ import annotations


class TrainingError(Exception):
    """Base class of all expected errors of training. The message says what was wrong and what is allowed."""


class RecipeError(TrainingError):
    """A recipe that cannot be used: an unknown key, a value out of range."""


class DataError(TrainingError):
    """Labelled videos that cannot be listed, split or read."""


class ResumeError(TrainingError):
    """A run folder that cannot be continued."""


class DivergedError(TrainingError):
    """A training whose loss is not a finite number."""


class CalibrationError(TrainingError):
    """Confidences or budgets for which thresholds cannot be solved."""
