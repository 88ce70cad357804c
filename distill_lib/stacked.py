"""Several students as one compiled program, and the loss that finds its signals by name."""

import inspect
import logging

import keras
import numpy as np
import tensorflow as tf

STEPS_PER_CALL = 50  # updates in one call into TensorFlow; Ctrl-C acts between calls

# Each program compiles its own step, on purpose; TensorFlow takes many of them for a mistake.
logging.getLogger("tensorflow").addFilter(
    lambda record: "triggered tf.function retracing" not in record.getMessage()
)


def wanted(loss, signals):
    """The signals that ``loss`` names among its arguments, all of them if it takes any."""
    parameters = inspect.signature(loss).parameters
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return dict(signals)
    return {name: signal for name, signal in signals.items() if name in parameters}


def student_signals(outputs):
    """The outputs of a student as the signals that a loss takes, by name."""
    outputs = outputs if isinstance(outputs, dict) else {"logits": outputs}
    return {f"student_{name}": output for name, output in outputs.items()}


class Program:
    """One compiled training step for ``count`` students at a time."""

    def __init__(self, worker, count, batch, loss, learning_rate):
        self.worker, self.count, self.batch, self.loss = worker, count, batch, loss
        self.weights, self.states = worker.trainable_variables, worker.non_trainable_variables
        if count > 1:
            self.weights = [keras.Variable(self._pack([w] * count)) for w in self.weights]
            self.states = [keras.Variable(self._pack([s] * count)) for s in self.states]
        self.optimizer = keras.optimizers.Adam(learning_rate)
        self.optimizer.build(self.weights)
        self.fresh = [variable.numpy() for variable in self.optimizer.variables]
        self.run = tf.function(self._steps, reduce_retracing=True)

    def train(self, students, numbers, rows, knobs, progress):
        """Train the students of these numbers; ``rows`` are ``(students, steps, batch)``."""
        own = self.weights + self.states
        chosen = [students[number] for number in numbers]
        each = [one.trainable_variables + one.non_trainable_variables for one in chosen]
        places = list(zip(*each, strict=True))
        _assign(own, [self._pack(place) for place in places])
        _assign(self.optimizer.variables, self.fresh)
        knobs = {k: self._pack([v[n] for n in numbers]) for k, v in knobs.items()}
        fixed = (
            tf.constant(self._pack(numbers), "int32"),
            {name: tf.constant(value, "float32") for name, value in knobs.items()},
        )
        rows = np.stack([self._pack(step) for step in rows[numbers].swapaxes(0, 1)])
        for start in range(0, len(rows), STEPS_PER_CALL):
            piece = rows[start : start + STEPS_PER_CALL]
            self.run(tf.constant(piece), *fixed)
            progress.add(len(piece))
        for place, variable in zip(places, own, strict=True):
            value = variable.numpy()
            _assign(place, value if self.count > 1 else [value])

    def _pack(self, values):
        """Students along a new first axis; a student alone stays as it is."""
        return np.stack(values) if self.count > 1 else np.asarray(values[0])

    def _steps(self, rows, numbers, knobs):
        for step in tf.range(tf.shape(rows)[0]):
            weights, states = ([v.value for v in part] for part in (self.weights, self.states))
            with tf.GradientTape() as tape:
                tape.watch(weights)
                values, after = self._objective((weights, states, numbers, rows[step], knobs))
                # The students share nothing: the gradient of the sum is each one's own.
                total = tf.reduce_sum(values)
            gradients = zip(tape.gradient(total, weights), self.weights, strict=True)
            # A loss on features alone leaves the last layer as it is.
            self.optimizer.apply_gradients([g for g in gradients if g[0] is not None])
            _assign(self.states, after)

    def _objective(self, arguments):
        if self.count > 1:
            return tf.vectorized_map(self._alone, arguments)
        return self._alone(arguments)

    def _alone(self, arguments):
        """Mean loss of one student on one batch, and its states after the forward pass."""
        weights, states, number, rows, knobs = arguments
        inputs, signals = self.batch(number, rows)
        outputs, states, penalties = self.worker.stateless_call(
            weights, states, inputs, training=True, return_losses=True
        )
        signals |= wanted(self.loss, student_signals(outputs))
        return keras.ops.mean(self.loss(**signals, **knobs)) + sum(penalties), states


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
