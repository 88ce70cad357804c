"""Sound formulas in a wrong state: who is trained, and in which mode who answers.

`update` is sound: one step of gradient descent for the student.
"""

import keras
import tensorflow as tf
from keras import ops

from distill_lib.losses import soft_target_loss


def update(student, x, teacher_logits, training=True):
    """One step of the student towards the teacher's answers."""
    with tf.GradientTape() as tape:
        student_logits = student(x, training=training)
        values = soft_target_loss(teacher_logits=teacher_logits, student_logits=student_logits)
        loss = ops.mean(values)
    gradients = tape.gradient(loss, student.trainable_variables)
    keras.optimizers.SGD(0.1).apply(gradients, student.trainable_variables)


class Exchanged:
    """A student and its teacher; `fit` trains the student."""

    def __init__(self, student, teacher):
        self.teacher = student
        self.student = teacher

    def fit(self, x):
        """One step on all examples."""
        update(self.student, x, self.teacher(x, training=False))


class TeacherAwake:
    """A student and its teacher; `fit` trains the student and leaves the teacher as it is."""

    def __init__(self, student, teacher):
        self.teacher, self.student = teacher, student

    def fit(self, x):
        """One step on all examples; only the student's weights get a gradient."""
        update(self.student, x, self.teacher(x, training=True))


class AsleepAfterEvaluation:
    """A student and its teacher; `fit` looks at test data after each epoch."""

    def __init__(self, student, teacher):
        self.teacher, self.student = teacher, student

    def fit(self, x, epochs, x_test):
        """One step an epoch."""
        self.training = True
        for _ in range(epochs):
            update(self.student, x, self.teacher(x, training=False), self.training)
            self.evaluate(x_test)

    def evaluate(self, x_test):
        """The student's answers, without dropout."""
        self.training = False
        return self.student(x_test, training=self.training)


def evaluate_with_features(student, layer, x):
    """The mean size of a layer's features; looking must not change the student."""
    inner = keras.Model(student.inputs[0], student.get_layer(layer).output)
    return float(ops.mean(ops.abs(inner(x, training=True))))
