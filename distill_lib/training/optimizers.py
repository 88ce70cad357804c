"""The optimizer of many students: a recipe from which every program gets its own optimizer."""

import keras
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

# Their updates look at each number alone, so that they treat a stack of students as they treat
# one. With any other optimizer, such as Lamb, Muon or Adafactor, which measure whole weights,
# the students are trained one by one.
ELEMENTWISE = (
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.Adagrad,
    keras.optimizers.Adadelta,
    keras.optimizers.Ftrl,
    keras.optimizers.Lion,
)
REFUSED = ("LossScaleOptimizer", "MultiOptimizer")


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam, whose formula TensorFlow computes in one pass over the weights.

    Keras takes a dozen passes, which was two fifths of the time of a step of many students.
    """

    def update_step(self, gradient, variable, learning_rate):
        """Update one weight; with ``amsgrad`` or a sparse gradient as Keras does."""
        if self.amsgrad or isinstance(gradient, tf.IndexedSlices):
            return super().update_step(gradient, variable, learning_rate)
        index, dtype = self._get_variable_index(variable), variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
            lr=tf.cast(learning_rate, dtype),
            beta1=tf.cast(self.beta_1, dtype),
            beta2=tf.cast(self.beta_2, dtype),
            epsilon=tf.cast(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )


class Recipe:
    """Makes optimizers like a given one, which itself is left alone.

    Args:
        optimizer: An unused Keras optimizer, or its name such as ``"sgd"``; ``None`` is Adam.
        learning_rate: The rate of Adam, a number or a Keras schedule; ``None`` is 0.001.

    Raises:
        ValueError: If both are given, or if a copy could not stand for the optimizer.
    """

    def __init__(self, optimizer=None, learning_rate=None):
        if optimizer is not None and learning_rate is not None:
            rule = "learning_rate must be given to the optimizer itself, where there is one"
            raise ValueError(f"{rule}, got {learning_rate} beside {optimizer}")
        if optimizer is None:
            rate = 1e-3 if learning_rate is None else learning_rate
            is_schedule = isinstance(rate, LearningRateSchedule)
            optimizer = keras.optimizers.Adam(rate if is_schedule else float(rate))
        optimizer = keras.optimizers.get(optimizer)
        _check(optimizer)
        self.config = optimizer.get_config()
        self.kind = type(optimizer)
        self.averages = optimizer.use_ema
        # A norm over a stack would mix the students.
        clips_norms = optimizer.clipnorm is not None or optimizer.global_clipnorm is not None
        self.is_stackable = self.kind in ELEMENTWISE and not clips_norms

    def make(self):
        """Return a new optimizer."""
        is_adam = self.kind in (keras.optimizers.Adam, keras.optimizers.AdamW)
        return (FusedAdam if is_adam else self.kind).from_config(self.config)


def _check(optimizer):
    """Refuse an optimizer that its configuration does not describe wholly."""
    name = type(optimizer).__name__
    if name in REFUSED:
        raise ValueError(f"optimizer must be a single one that scales no losses, got {name}")
    rate = optimizer._learning_rate
    if callable(rate) and not isinstance(rate, LearningRateSchedule):
        raise ValueError(f"learning_rate must be a number or a Keras schedule, got {rate}")
    if int(optimizer.iterations):
        made = int(optimizer.iterations)
        raise ValueError(f"optimizer must be a new one, got one that made {made} updates")
    excluded = "_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern"
    if any(getattr(optimizer, attribute, None) for attribute in excluded):
        rule = "optimizer must decay all weights or none (its configuration says no more)"
        raise ValueError(f"{rule}, got {name} with exclude_from_weight_decay")
