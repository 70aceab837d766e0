"""What can go wrong while learning, as one small family: the command line turns each into one line.

TrainingError
├── RecipeError        a recipe (configuration) that cannot be used
├── DataError          labelled videos that cannot be listed, split or read
├── ResumeError        a run folder that another recipe, or nothing usable, lives in
├── DivergedError      a loss that is no number any more
└── CalibrationError   confidences or budgets that thresholds cannot be solved from
"""

from __future__ import annotations


class TrainingError(Exception):
    """Any foreseeable failure of this wing; the text says what was wrong and what would be right."""


class RecipeError(TrainingError):
    """A recipe that cannot be used: an unknown key, a value out of range."""


class DataError(TrainingError):
    """Labelled videos that cannot be listed, split or read."""


class ResumeError(TrainingError):
    """A run folder that cannot be continued."""


class DivergedError(TrainingError):
    """A training whose loss is no number any more."""


class CalibrationError(TrainingError):
    """Confidences or budgets that thresholds cannot be solved from."""
