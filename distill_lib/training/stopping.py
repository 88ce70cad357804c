"""Validation of many students while they train: each keeps its best weights and its curve."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from distill_lib.mean_loss import wanted
from distill_lib.training.stacked import objective

EXAMPLES_PER_CALL = 500


@dataclass(frozen=True)
class Curve:
    """How one student was trained.

    Attributes:
        loss: before each update, of that batch, regularisation included; ``(updates,)``.
        validation: the mean loss over all validation data, after ``evaluated[i]`` updates;
            empty without validation.
        evaluated: numbers of updates, as many as ``validation``.
        best_step: after how many updates the student had the weights that it has now.
    """

    loss: np.ndarray
    validation: np.ndarray
    evaluated: np.ndarray
    best_step: int

    def __repr__(self):
        return f"Curve({len(self.loss)} updates, best after {self.best_step})"


class Validation:
    """The loss of all students of a program on validation data.

    Args:
        data: the :class:`~distill_lib.training.batches.Data`.
        loss: taken without regularisation.
        every: updates between two evaluations.
        patience: evaluations without a new best after which a student stops, ``None`` never.
    """

    def __init__(self, data, loss, every, patience):
        self.data, self.loss, self.every, self.patience = data, loss, every, patience
        self.measures = {}  # the compiled measure of the present program

    def losses(self, program, numbers, knobs):
        """The mean loss of each student ``(students,)``, whatever the order of the examples."""
        if program not in self.measures:
            self.measures = {program: tf.function(self._batch(program), reduce_retracing=True)}
        measure, total, count = self.measures[program], 0.0, 0.0
        rows = np.arange(len(self.data.x), dtype="int32")
        for part in np.array_split(rows, -(-len(rows) // EXAMPLES_PER_CALL)):
            mean, examples = measure(tf.constant(part), numbers, knobs)
            total += mean.numpy().astype("float64") * examples.numpy()
            count += examples.numpy()
        return np.atleast_1d(total / np.maximum(count, 1))

    def _batch(self, program):
        def measure(rows, numbers, knobs):
            weights, states = ([v.value for v in p] for p in (program.weights, program.states))
            arguments = (weights, states, numbers, knobs)
            return program.over_students(lambda one: alone(rows, *one), arguments)

        def alone(rows, weights, states, number, knobs):
            inputs, signals = self.data.batch(number, rows)
            outputs, _ = program.worker.stateless_call(weights, states, inputs, training=False)
            return objective(self.loss, signals, outputs, wanted(self.loss, knobs))

        return measure


class Progress:
    """What is remembered of the students of one program while they train."""

    def __init__(self, count, validation):
        self.validation, self.losses, self.evaluated, self.found = validation, [], [], []
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
        self.evaluated.append(step)
        self.found.append(losses)
        better = self.active & (losses < self.best)
        if self.weights is None:
            self.weights = [value.copy() for value in weights]
        for kept, now in zip(self.weights, weights, strict=True):
            kept[better] = now[better]
        self.best[better], self.best_step[better] = losses[better], step
        if self.validation.patience is not None:
            waited = (step - self.best_step) / self.validation.every
            self.stopped[self.active & (waited >= self.validation.patience)] = step

    def curves(self):
        """The :class:`Curve` of each student."""
        losses = np.concatenate(self.losses)
        steps = np.where(self.active, len(losses), self.stopped)
        evaluated = np.array(self.evaluated, int)
        found = []
        for k, last in enumerate(steps):
            seen = evaluated[evaluated <= last]
            values = np.array([losses_[k] for losses_ in self.found[: len(seen)]])
            best = last if self.weights is None else self.best_step[k]
            found.append(Curve(losses[:last, k], values, seen, int(best)))
        return found
