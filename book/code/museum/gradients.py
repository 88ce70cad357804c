"""Losses whose value may look sound while the gradient is lost."""

import keras
from keras import layers, ops


def log_of_softmax(*, labels, teacher_logits, student_logits, temperature=4.0):
    """DKD's target part: the label against all other classes taken together."""
    is_label = ops.equal(ops.arange(teacher_logits.shape[-1]), ops.expand_dims(labels, -1))

    def label_or_not(logits):
        label = ops.sum(ops.where(is_label, ops.softmax(logits / temperature), 0.0), axis=-1)
        return ops.stack([label, 1 - label], axis=-1)

    p, q = label_or_not(teacher_logits), label_or_not(student_logits)
    return temperature**2 * ops.sum(p * (ops.log(p) - ops.log(q)), axis=-1)


def clipped(*, teacher_logits, student_logits, temperature=1.0):
    """T^2 KL(p || q), safe for probabilities that are zero in float32."""
    p = ops.softmax(teacher_logits / temperature)
    q = ops.softmax(student_logits / temperature)
    p, q = ops.clip(p, 1e-7, 1.0), ops.clip(q, 1e-7, 1.0)
    return temperature**2 * ops.sum(p * ops.log(p / q), axis=-1)


def guarded_after_the_log(*, teacher_logits, student_logits, temperature=1.0):
    """T^2 KL(q || p), safe for probabilities that are zero in float32: 0 log 0 = 0."""
    log_p = ops.log_softmax(teacher_logits / temperature)
    q = ops.softmax(student_logits / temperature)
    terms = ops.where(q > 0, q * (ops.log(q) - log_p), 0.0)
    return temperature**2 * ops.sum(terms, axis=-1)


def rectified_logits(width=128, input_shape=(28, 28, 1), output_count=10):
    """A student with one hidden layer, from images to logits."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(width, activation="relu"),
            layers.Dense(output_count, activation="relu", name="logits"),
        ]
    )
