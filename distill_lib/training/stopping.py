"""Validation of many students while they train: each keeps its best weights and its curve."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """How one student was trained.

    Attributes:
        loss: The loss before each update, on the batch of that update, with regularisation;
            an array ``(updates,)``.
        validation: The mean loss over all validation data after each of ``evaluated``
            updates; empty without validation.
        evaluated: Numbers of updates, as many as ``validation``.
        best_step: After how many updates the student had the weights that it has now.
    """

    loss: np.ndarray
    validation: np.ndarray
    evaluated: np.ndarray
    best_step: int

    def __repr__(self):
        return f"Curve({len(self.loss)} updates, best after {self.best_step})"


class Progress:
    """What is remembered of ``count`` students of one program while they train.

    A student stops after ``patience`` evaluations without a new best; with ``None`` never.
    """

    def __init__(self, count, patience):
        self.patience = patience
        self.losses, self.evaluated, self.found = [], [], []
        self.waited = np.zeros(count, int)  # evaluations since the best one
        self.best = np.full(count, np.inf)
        self.best_step = np.zeros(count, int)
        self.stopped = np.zeros(count, int)  # after which update; 0 while it goes on
        self.weights = None

    @property
    def active(self):
        """Which students still learn."""
        return self.stopped == 0

    def evaluate(self, step, losses, weights):
        """Keep the weights of the students that are better than ever; stop the tired ones."""
        if not np.isfinite(losses[self.active]).all():
            rule = "validation loss must stay finite for every student"
            raise ValueError(f"{rule}, got {losses} after {step} updates")
        self.evaluated.append(step)
        self.found.append(losses)
        better = self.active & (losses < self.best)
        if self.weights is None:
            self.weights = [value.copy() for value in weights]
        for kept, now in zip(self.weights, weights, strict=True):
            kept[better] = now[better]
        self.best[better], self.best_step[better] = losses[better], step
        self.waited = np.where(better, 0, self.waited + 1)
        if self.patience is not None:
            self.stopped[self.active & (self.waited >= self.patience)] = step

    def curves(self):
        """Return the :class:`Curve` of each student."""
        losses, curves = np.concatenate(self.losses), []
        for k, stopped in enumerate(self.stopped):
            last = stopped or len(losses)
            evaluated = [step for step in self.evaluated if step <= last]
            values = [found[k] for found in self.found[: len(evaluated)]]
            best = last if self.weights is None else self.best_step[k]
            curve = Curve(
                losses[:last, k], np.array(values), np.array(evaluated, int), int(best)
            )
            curves.append(curve)
        return curves
