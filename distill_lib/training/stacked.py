"""Several students as one compiled program, and the loss that finds its signals by name."""

import logging

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from distill_lib import counting
from distill_lib.mean_loss import mean_loss, student_signals, wanted
from distill_lib.training.starts import variables_of

EXAMPLES_PER_CALL = 500  # of the validation data

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
    """Compiled training and validation of ``count`` students at a time.

    Several students are stacks of weights along a new first axis; one is the worker itself.
    Nothing is left to AutoGraph: as in Keras's own ``fit`` it does not rewrite losses and
    optimizers, which takes longer than to trace them.
    """

    def __init__(self, worker, count, run):
        self.worker, self.count, self.run = worker, count, run
        self.own = variables_of(worker)
        if count > 1:
            self.own = [keras.Variable(np.stack([v] * count), dtype=v.dtype) for v in self.own]
        split = len(worker.trainable_variables)
        self.weights, self.states = self.own[:split], self.own[split:]
        self.optimizer = run.recipe.make()
        self.optimizer.build(self.weights)
        students = (count,) if count > 1 else ()
        knobs = {name: tf.TensorSpec(students, "float32") for name in run.knobs}
        of_each = tf.TensorSpec(students, "int32"), knobs
        batches = tf.TensorSpec((None, *students, run.batch_size), "int32")
        self._updates = tf.function(self._make_updates, [batches, *of_each], autograph=False)
        rows = tf.TensorSpec((None,), "int32")
        self._measure = tf.function(self._validation_losses, [rows, *of_each], autograph=False)

    def load(self, starts, numbers):
        """Begin anew with the students of these numbers, from lists of their weights."""
        knobs = {}
        for name, values in self.run.knobs.items():
            own = [values[number] for number in numbers]
            knobs[name] = tf.constant(self.pack(own), "float32")
        self.of_each = tf.constant(self.pack(numbers), "int32"), knobs
        for variable, values in zip(self.own, zip(*starts, strict=True), strict=True):
            variable.assign(self.pack(values))
        # A new optimizer may begin with what depends on the weights, not with zeros.
        fresh = self.run.recipe.make()
        fresh.build(self.weights)
        for variable, new in zip(self.optimizer.variables, fresh.variables, strict=True):
            variable.assign(new)

    def values(self):
        """Return the present weights and states, the students along the first axis."""
        return [v.numpy() if self.count > 1 else v.numpy()[None] for v in self.own]

    def pack(self, values):
        """Stack what each student has along a new first axis; one student stays as it is."""
        return np.stack(values) if self.count > 1 else np.asarray(values[0])

    def train(self, rows):
        """Make updates and return the losses before each of them, ``(steps, students)``.

        ``rows`` holds the row numbers of each student, ``(steps, batch_size)``.
        """
        # (steps, students, batch_size), or (steps, batch_size) of one student
        batches = np.moveaxis(self.pack(rows), -2, 0)
        losses = self._updates(tf.constant(batches), *self.of_each).numpy()
        return losses.reshape(len(batches), -1)

    def validate(self):
        """Return the mean validation loss of each student, ``(students,)``."""
        total, count = 0.0, 0.0
        rows = np.arange(len(self.run.validation.x), dtype="int32")
        for part in np.array_split(rows, -(-len(rows) // EXAMPLES_PER_CALL)):
            mean, values = self._measure(tf.constant(part), *self.of_each)
            total += mean.numpy().astype("float64") * values.numpy()
            count += values.numpy()
        return np.atleast_1d(total / np.maximum(count, 1))

    def _make_updates(self, rows, numbers, knobs):
        """Make one update for each of ``rows (steps, ...)``; return the losses before each."""
        steps = tf.shape(rows)[0]

        def update(step, losses):
            values = self._update(rows[step], numbers, knobs)
            return step + 1, losses.write(step, values)

        start = (0, tf.TensorArray("float32", size=steps))
        _, losses = tf.while_loop(lambda step, _: step < steps, update, start)
        return losses.stack()

    def _update(self, rows, numbers, knobs):
        """Make one update of all students on a batch of each; return the losses before it."""
        weights, states = self._present()
        with tf.GradientTape() as tape:
            tape.watch(weights)
            arguments = (weights, states, numbers, rows, knobs)
            losses, states = self._for_each(self._training_loss, arguments)
            # The students share nothing: the gradient of the sum is each one's own.
            total = self.optimizer.scale_loss(tf.reduce_sum(losses))
        pairs = zip(tape.gradient(total, weights), self.weights, strict=True)
        # A loss on features alone leaves the last layer as it is.
        pairs = [pair for pair in pairs if pair[0] is not None]
        if self.run.recipe.averages and len(pairs) < len(self.weights):
            rule = "optimizer must not use_ema where a weight has no part in the loss"
            raise ValueError(f"{rule}, got use_ema=True")
        self.optimizer.apply_gradients(pairs)
        for state, value in zip(self.states, states, strict=True):
            state.assign(value)
        return losses

    def _training_loss(self, arguments):
        """Return the loss of one student on one batch, and its states afterwards."""
        weights, states, number, rows, knobs = arguments
        inputs, signals = self.run.data.batch(number, rows)
        outputs, states, penalties = self.worker.stateless_call(
            weights, states, inputs, training=True, return_losses=True
        )
        mean, _ = objective(self.run.loss, signals, outputs, knobs)
        return ops.cast(mean, "float32") + sum(penalties), states

    def _validation_losses(self, rows, numbers, knobs):
        """Return the mean loss of each student on some validation rows, and of how many."""

        def alone(arguments):
            weights, states, number, knobs = arguments
            inputs, signals = self.run.validation.batch(number, rows)
            outputs, _ = self.worker.stateless_call(weights, states, inputs, training=False)
            loss = self.run.validation_loss
            return objective(loss, signals, outputs, wanted(loss, knobs))

        return self._for_each(alone, (*self._present(), numbers, knobs))

    def _present(self):
        """Return the tensors of the present weights and states."""
        return [v.value for v in self.weights], [v.value for v in self.states]

    def _for_each(self, function, arguments):
        """Apply a function of what one student has to what all of them have."""
        return tf.vectorized_map(function, arguments) if self.count > 1 else function(arguments)
