"""Trained students as a sequence: a Keras model is built only for one that is taken out."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
import tensorflow as tf

from distill_lib.training.batches import is_array
from distill_lib.training.starts import variables_of
from distill_lib.training.stopping import Curve

STUDENTS_PER_CALL = 64  # at most so many answer at a time: it bounds the memory


@dataclass(eq=False)
class Student:
    """One trained student: what builds its model, its weights, and the model if it is built."""

    build: callable
    seed: int
    weights: list
    curve: Curve
    model: keras.Model | None = None
    variables: list = field(default_factory=list)

    def take_out(self):
        """Return the Keras model, the same at every call."""
        if self.model is None:
            # Whether and when a model is taken out shall change no random number elsewhere.
            states = random.getstate(), np.random.get_state()  # noqa: NPY002
            self.keep(self.build())
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
        return self.model

    def keep(self, model):
        """Make this model the student's own and give it the student's weights."""
        self.model, self.variables = model, variables_of(model)
        for variable, value in zip(self.variables, self.weights, strict=True):
            variable.assign(value)

    def present_weights(self):
        """Return the weights; of a model that was taken out, those that it has now."""
        return self.weights if self.model is None else [v.numpy() for v in self.variables]


class Students(Sequence):
    """Trained students in the order of their seeds; a list of ``keras.Model`` to its user.

    A model is built when it is taken out by index, loop or unpacking; a slice builds none.
    It belongs to its user then: what is changed in its weights counts in :meth:`predict`.
    """

    def __init__(self, students, worker, is_stackable):
        self._students, self._worker, self._is_stackable = students, worker, is_stackable
        self._answer = tf.function(self._answer_batch, autograph=False, reduce_retracing=True)

    def __len__(self):
        return len(self._students)

    def __getitem__(self, index):
        if not isinstance(index, slice):
            return self._students[index].take_out()
        some = Students(self._students[index], self._worker, self._is_stackable)
        some._answer = self._answer  # the same program, compiled once
        return some

    def __repr__(self):
        built = sum(one.model is not None for one in self._students)
        return f"Students({len(self)} of {self._worker.name!r}, {built} taken out as models)"

    @property
    def seeds(self):
        """The seed of each student."""
        return [one.seed for one in self._students]

    @property
    def curves(self):
        """The :class:`~distill_lib.training.stopping.Curve` of each student."""
        return [one.curve for one in self._students]

    def predict(self, x, batch_size=500):
        """Return what all students answer in inference mode, without building models.

        Args:
            x: An array ``(n, ...)`` of inputs.
            batch_size: Inputs at a time; it changes only time and memory.

        Returns:
            An array ``(students, n, outputs)``, or a dictionary of them by name of output.

        Raises:
            ValueError: If ``x`` is no array or empty, or if ``batch_size`` is below 1.
        """
        if not is_array(x) or not len(x):
            raise ValueError("x must be one array (n, ...) with n of at least 1")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        x = np.asarray(x)
        batches = np.array_split(x, -(-len(x) // batch_size))
        size = STUDENTS_PER_CALL if self._is_stackable else 1
        found = []
        for start in range(0, len(self), size):
            some = [one.present_weights() for one in self._students[start : start + size]]
            weights = [tf.constant(np.stack(values)) for values in zip(*some, strict=True)]
            parts = [self._answer(weights, tf.constant(batch)) for batch in batches]
            found.append(_joined(parts, axis=1))
        return _joined(found, axis=0)

    def _answer_batch(self, weights, x):
        def alone(own):
            split = len(self._worker.trainable_variables)
            return self._worker.stateless_call(own[:split], own[split:], x, training=False)[0]

        if self._is_stackable:
            return tf.vectorized_map(alone, weights)
        answers = alone([value[0] for value in weights])
        return keras.tree.map_structure(lambda answer: answer[None], answers)


def _joined(answers, axis):
    """Join arrays, or dictionaries of arrays, one after the other."""
    return keras.tree.map_structure(lambda *parts: np.concatenate(parts, axis), *answers)
