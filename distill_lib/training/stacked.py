"""Several students as one compiled program, and the loss that finds its signals by name."""

import logging

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from distill_lib import counting
from distill_lib.mean_loss import mean_loss, student_signals
from distill_lib.training.starts import variables_of

# Each program compiles its own step, on purpose; TensorFlow takes many of them for a mistake.
logging.getLogger("tensorflow").addFilter(
    lambda record: "triggered tf.function retracing" not in record.getMessage()
)


def objective(loss, signals, outputs, knobs):
    """Return the mean loss of one student on one batch, and the number of values in it."""
    mask = counting.both(signals.get("mask"), mask_of(outputs))
    signals = signals | student_signals(outputs)
    return mean_loss(loss, signals if mask is None else signals | {"mask": mask}, knobs)


def mask_of(outputs):
    """Return the mask that Keras keeps with a student's outputs, or ``None``."""
    mask = None
    for output in student_signals(outputs).values():
        mask = counting.both(mask, counting.mask_of(output))
    return mask


class Program:
    """One compiled piece of training for ``count`` students at a time.

    Several students are stacks of weights along a new first axis; one is the worker itself.
    Only the loop over steps is left to AutoGraph: as in Keras's own ``fit`` it does not
    rewrite losses and optimizers, which takes longer than to trace them.
    """

    def __init__(self, worker, count, data, loss, recipe, knob_names, batch_size):
        self.worker, self.count, self.data = worker, count, data
        self.loss, self.recipe = loss, recipe
        self.own = variables_of(worker)
        if count > 1:
            self.own = [keras.Variable(np.stack([v] * count), dtype=v.dtype) for v in self.own]
        split = len(worker.trainable_variables)
        self.weights, self.states = self.own[:split], self.own[split:]
        self.optimizer = recipe.make(stacked=count > 1)
        self.optimizer.build(self.weights)
        students = (count,) if count > 1 else ()
        self.run = tf.function(
            self._steps,
            input_signature=(
                tf.TensorSpec((None, *students, batch_size), "int32"),
                tf.TensorSpec(students, "int32"),
                {name: tf.TensorSpec(students, "float32") for name in knob_names},
            ),
        )

    def load(self, starts):
        """Begin anew from the weights of each student, lists of arrays."""
        for variable, values in zip(self.own, zip(*starts, strict=True), strict=True):
            variable.assign(self.pack(values))
        # A new optimizer may begin with what depends on the weights, not with zeros.
        fresh = self.recipe.make(stacked=self.count > 1)
        fresh.build(self.weights)
        for variable, new in zip(self.optimizer.variables, fresh.variables, strict=True):
            variable.assign(new)

    def values(self):
        """The present weights and states, each with the students along the first axis."""
        return [v.numpy() if self.count > 1 else v.numpy()[None] for v in self.own]

    def pack(self, values):
        """Students along a new first axis; a student alone stays as it is."""
        return np.stack(values) if self.count > 1 else np.asarray(values[0])

    @tf.autograph.experimental.do_not_convert
    def over_students(self, function, arguments):
        """A function of what one student has, for all of them."""
        return tf.vectorized_map(function, arguments) if self.count > 1 else function(arguments)

    def _steps(self, rows, numbers, knobs):
        """Make one update for each of ``rows (steps, ...)``; returns the losses before each."""
        count = tf.shape(rows)[0]
        losses = tf.TensorArray("float32", size=count)
        for step in tf.range(count):
            weights, states = ([v.value for v in part] for part in (self.weights, self.states))
            with tf.GradientTape() as tape:
                tape.watch(weights)
                arguments = (weights, states, numbers, rows[step], knobs)
                values, after = self.over_students(self._objective, arguments)
                # The students share nothing: the gradient of the sum is each one's own.
                total = self.optimizer.scale_loss(tf.reduce_sum(values))
            self._update(tape.gradient(total, weights))
            for state, value in zip(self.states, after, strict=True):
                state.assign(value)
            losses = losses.write(step, values)
        return losses.stack()

    @tf.autograph.experimental.do_not_convert
    def _update(self, gradients):
        """Let the optimizer act; a loss on features alone leaves the last layer as it is."""
        pairs = zip(gradients, self.weights, strict=True)
        pairs = [pair for pair in pairs if pair[0] is not None]
        if self.recipe.averages and len(pairs) < len(self.weights):
            raise ValueError(
                "optimizer must not use_ema where a weight has no part in the loss"
            )
        if self.recipe.clips and self.count > 1:
            gradients, weights = zip(*pairs, strict=True)
            pairs = zip(self.recipe.clip(gradients), weights, strict=True)
        self.optimizer.apply_gradients(pairs)

    @tf.autograph.experimental.do_not_convert
    def _objective(self, arguments):
        """Mean loss of one student on one batch, and its states after the forward pass."""
        weights, states, number, rows, knobs = arguments
        inputs, signals = self.data.batch(number, rows)
        outputs, states, penalties = self.worker.stateless_call(
            weights, states, inputs, training=True, return_losses=True
        )
        mean = objective(self.loss, signals, outputs, knobs)[0]
        return ops.cast(mean, "float32") + sum(penalties), states
