"""Many students at once: what honest evidence over seeds costs, made small.

A student of a few thousand weights leaves a processor idle: most of its time goes into
starting operations. :func:`train_many` stacks the weights of all students along a new axis
and runs them as one program, each with its own start, order of batches and temperature.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from distill_lib.signals import joined, take
from distill_lib.stacked import Program, student_signals, wanted

STUDENTS_PER_CALL = 64  # trained together at most: it bounds the memory of a step

# What is trained together. Not convolutions: each is busy enough alone, stacking gains
# nothing. Not dropout: its random numbers would not be those of a student trained alone.
STACKABLE = (
    layers.InputLayer,
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.Rescaling,
    layers.Dense,
    layers.Activation,
    layers.ReLU,
    layers.BatchNormalization,
    layers.LayerNormalization,
    layers.Concatenate,
    layers.Add,
)


def train_many(
    build,
    x,
    signals,
    *,
    loss,
    seeds,
    steps=1000,
    batch_size=128,
    learning_rate=1e-3,
    verbose=0,
    **arguments,
):
    """Train a new student for each seed, with Adam; all at once where the layers allow it.

    The results are those of separate trainings from the same weights on the same batches, up
    to rounding. Students with layers outside :data:`STACKABLE` or with constraints are trained
    one by one by the same program, without the gain in time. A list, one entry for each seed,
    gives every student its own ``build``, signal or number; else all have the same.

    Args:
        build: function that returns a new, built ``keras.Model``, always of one
            architecture. Its output is ``student_logits``; of a dictionary of outputs each
            ``key`` is ``student_<key>``.
        x: array ``(n, ...)`` of inputs.
        signals: what ``loss`` takes beside the student's outputs, by name, n rows each:
            ``{"labels": y, "teacher_logits": v}``; arrays, or :mod:`distill_lib.signals`.
        loss: function of named signals with one value for each example, such as those of
            :mod:`distill_lib.losses`; its mean over the batch and the model's own
            regularisation are minimised.
        seeds: integers from 0; equal seeds have equal starts and batches, whatever the loss.
        steps, batch_size: number of updates, examples in each (a batch may reach over the
            end of a pass into the next). ``learning_rate``: a number or a Keras schedule.
        verbose: 1 shows a progress bar, 0 nothing.
        **arguments: numbers that ``loss`` takes: ``temperature=4.0``, or for two seeds
            ``temperature=[1.0, 4.0]``.

    Returns:
        a list of trained ``keras.Model``, uncompiled, in the order of ``seeds``.

    Raises:
        ValueError: lengths that do not fit, a count below 1, a ``build`` without weights,
            or whatever ``loss`` refuses.
    """
    seeds = list(seeds)
    _check(len(x), seeds=len(seeds), steps=steps, batch_size=batch_size)
    knobs = {k: [float(n) for n in _each(k, v, seeds)] for k, v in arguments.items()}
    builds = _each("build", build, seeds)
    students = [_new_student(*pair) for pair in zip(builds, seeds, strict=True)]
    rows = np.stack([batch_rows(len(x), seed, steps, batch_size) for seed in seeds])
    batch = _batch_function(x, wanted(loss, signals), seeds)
    _try_out(loss, students[0], batch(0, rows[0, 0]), knobs)
    size = STUDENTS_PER_CALL if all(_is_stackable(student) for student in students) else 1
    progress = keras.utils.Progbar(steps * -(-len(students) // size), verbose=verbose)
    program = None
    for start in range(0, len(students), size):
        numbers = range(len(students))[start : start + size]
        if program is None or program.count != len(numbers) or _has_constraint(program.worker):
            program = Program(builds[start](), len(numbers), batch, loss, learning_rate)
        program.train(students, numbers, rows, knobs, progress)
    return students


def batch_rows(count, seed, steps, batch_size=128):
    """The row numbers of each batch, int32 ``(steps, batch_size)``.

    One pass over all ``count`` rows after another, each in an order that ``seed`` decides.
    """
    rng = np.random.default_rng(seed)
    passes = -(-steps * batch_size // count)
    order = np.concatenate([rng.permutation(count) for _ in range(passes)])
    return order[: steps * batch_size].reshape(steps, batch_size).astype("int32")


def _batch_function(x, signals, seeds):
    """A function of a student's number and of row numbers to its inputs and signals."""
    inputs, held, own = tf.constant(x), {}, {}
    for name, signal in signals.items():
        for one in _each(name, signal, seeds):
            if len(one) != len(x):
                raise ValueError(f"{name} must have {len(x)} rows as x has, got {len(one)}")
        # One student's rows after the other's: those of student k begin at k n.
        own[name] = len(x) if isinstance(signal, list) else 0
        held[name] = joined(signal if isinstance(signal, list) else [signal])

    def batch(number, rows):
        given = {name: take(signal, rows + number * own[name]) for name, signal in held.items()}
        return tf.gather(inputs, rows), given

    return batch


def _new_student(build, seed):
    keras.utils.set_random_seed(seed)
    student = build()
    if not student.built or not student.trainable_variables:
        rule = "a built model (give it a keras.Input) with trainable weights"
        raise ValueError(f"build must return {rule}, got {student.name!r}")
    return student


def _is_stackable(student):
    def is_known(layer):
        inner = layer.layers if isinstance(layer, keras.Model) else []
        return all(map(is_known, inner)) if inner else isinstance(layer, STACKABLE)

    return is_known(student) and not _has_constraint(student)


def _has_constraint(student):
    return any(variable.constraint is not None for variable in student.trainable_variables)


def _try_out(loss, student, batch, knobs):
    """Let ``loss`` refuse its arguments now, by name, rather than inside a compiled step."""
    inputs, signals = batch
    signals |= wanted(loss, student_signals(student(inputs)))
    for values in set(zip(*knobs.values(), strict=True)) if knobs else [()]:
        loss(**signals, **dict(zip(knobs, values, strict=True)))


def _each(name, value, seeds):
    """One value for each student: those of a list, or the same for all."""
    if not isinstance(value, list):
        return [value] * len(seeds)
    if len(value) != len(seeds):
        raise ValueError(f"{name} must have {len(seeds)} entries like seeds, got {len(value)}")
    return value


def _check(row_count, **counts):
    for name, value in {"len(x)": row_count, **counts}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
