"""Many students at once: what honest evidence over seeds costs, made small.

A student of a few thousand weights leaves a processor idle: most of its time goes into
starting operations. :func:`train_many` stacks the weights of all students along a new axis
and runs them as one program, each with its own start, order of batches and temperature.
"""

import keras
from keras import layers

from distill_lib.training.arguments import as_knobs, as_seeds, check_counts, check_data
from distill_lib.training.batches import Data, as_subsets, batch_rows, per_seed
from distill_lib.training.optimizers import Recipe
from distill_lib.training.runs import Run
from distill_lib.training.stacked import Program
from distill_lib.training.starts import new_student, starting_weights
from distill_lib.training.stopping import Validation
from distill_lib.training.students import STUDENTS_PER_CALL, Student, Students

__all__ = ["batch_rows", "train_many"]

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
    learning_rate=None,
    optimizer=None,
    subsets=None,
    validation=None,
    validation_loss=None,
    evaluate_every=100,
    patience=None,
    verbose=0,
    **knobs,
):
    """Train a new student for each seed; all at once where layers and optimizer allow it.

    The results are those of separate trainings from the same weights on the same batches, up
    to rounding. Students with layers outside :data:`STACKABLE`, with constraints, or with an
    optimizer whose update is not elementwise, such as Lamb, are trained one by one by the same
    compiled program, without most of the gain in time. A list, one entry for each seed, gives
    every student its own ``build``, signal or number; else all have the same.

    Args:
        build: function that returns a new, built ``keras.Model``, always of one architecture,
            whose weights depend on nothing but the seed of ``keras.utils.set_random_seed``.
            Its output is ``student_logits``; of a dictionary of outputs each ``key`` is
            ``student_<key>``.
        x: array ``(n, ...)`` of inputs.
        signals: what ``loss`` takes beside the student's outputs, by name, n rows each:
            ``{"labels": y, "teacher_logits": v}``; arrays, or :mod:`distill_lib.signals`.
            ``sample_weight`` and ``mask`` (true counts), ``(n,)`` or on further axes of the
            examples, act in every loss as in :func:`~distill_lib.losses.weighted_mean`; the
            mask that Keras keeps with the student's output counts too.
        loss: function of named signals with one value for each example, such as those of
            :mod:`distill_lib.losses`; its mean over the batch and the model's own
            regularisation are minimised.
        seeds: integers from 0; equal seeds have equal starts and batches, whatever the loss.
        steps: number of updates, at most so many if ``patience`` is given.
        batch_size: examples in each; a batch may reach over the end of a pass into the next.
        learning_rate: of Adam, a number or a Keras schedule; 0.001 by default.
        optimizer: an unused Keras optimizer, of which each student gets a copy, or a name
            such as ``"sgd"``; Adam by default. Norms are clipped for each student alone.
        subsets: a list of arrays of row numbers, one for each seed: the examples that this
            student is trained on, of any lengths. All rows by default.
        validation: ``(x, signals)`` of other examples. Every student is returned with the
            weights that had the lowest mean loss on them.
        validation_loss: the loss there, without regularisation; ``loss`` by default.
        evaluate_every: updates between two evaluations; there is one after the last, too.
        patience: evaluations without a new best after which a student stops; ``None`` never.
        verbose: 1 shows a progress bar, 0 nothing.
        **knobs: numbers that ``loss`` takes: ``temperature=4.0``, or for two seeds
            ``temperature=[1.0, 4.0]``.

    Returns:
        :class:`~distill_lib.training.students.Students`: a sequence of trained, uncompiled
        ``keras.Model`` in the order of ``seeds``, with ``curves`` and ``predict``.

    Raises:
        ValueError: arguments that do not fit, a signal that the loss does not take or lacks,
            numbers that are not finite or labels outside the classes, where they count, a
            loss that becomes nan or infinite, or whatever ``loss`` refuses.
    """
    seeds = as_seeds(seeds)
    counts = {"steps": steps, "batch_size": batch_size, "evaluate_every": evaluate_every}
    check_counts(counts | ({} if patience is None else {"patience": patience}))
    recipe, knobs = Recipe(optimizer, learning_rate), as_knobs(loss, knobs, seeds)
    data = Data(x, signals, seeds)
    subsets = as_subsets(subsets, len(data.x), seeds)
    builds = per_seed("build", build, seeds)
    starts, worker, built = starting_weights(builds, seeds)
    check_data(data, loss, worker, knobs, subsets)
    _check_validation(validation, validation_loss, patience, recipe)
    watch = None
    if validation is not None:
        watched, watched_loss = Data(*validation, seeds, "validation "), validation_loss or loss
        check_data(watched, watched_loss, worker, knobs)
        watch = Validation(watched, watched_loss, evaluate_every, patience)
    run = Run(data, seeds, subsets, steps, batch_size, knobs, watch)
    return _train_groups(run, loss, recipe, builds, starts, worker, built, verbose)


def _train_groups(run, loss, recipe, builds, starts, worker, built, verbose):
    """Train the students in groups that are one program each, the program used again."""
    is_constrained = any(map(_has_constraint, [worker, *built.values()]))
    is_stackable = _is_stackable(worker) and not is_constrained
    size = STUDENTS_PER_CALL if is_stackable and recipe.is_stackable else 1
    bar = keras.utils.Progbar(run.steps * -(-len(starts) // size), verbose=verbose)
    students, program = [], None
    for first in range(0, len(starts), size):
        numbers = range(len(starts))[first : first + size]
        if is_constrained and first:  # a constraint belongs to the weights of one model
            worker = built.get(first) or new_student(builds[first], run.seeds[first])
        if program is None or program.count != len(numbers) or is_constrained:
            program = Program(
                worker, len(numbers), run.data, loss, recipe, list(run.knobs), run.batch_size
            )
        weights, curves = run.train(program, starts[first : first + size], numbers, bar)
        for k, number in enumerate(numbers):
            own = [values[k] for values in weights]
            students.append(Student(builds[number], run.seeds[number], own, curves[k]))
    for number, model in built.items():
        students[number].keep(model)
    keras.utils.set_random_seed(run.seeds[-1])  # whatever was built, the same state after it
    return Students(students, worker, is_stackable)


def _is_stackable(student):
    def is_known(layer):
        inner = layer.layers if isinstance(layer, keras.Model) else []
        return all(map(is_known, inner)) if inner else isinstance(layer, STACKABLE)

    return is_known(student) and not _has_constraint(student)


def _has_constraint(student):
    return any(variable.constraint is not None for variable in student.trainable_variables)


def _check_validation(validation, validation_loss, patience, recipe):
    if validation is None:
        if patience is not None or validation_loss is not None:
            rule = "patience and validation_loss need validation=(x, signals)"
            raise ValueError(f"{rule}, got None")
        return
    if not isinstance(validation, (list, tuple)) or len(validation) != 2:
        kind = type(validation).__name__
        raise ValueError(f"validation must be a pair (x, signals), got a {kind}")
    if recipe.averages:
        raise ValueError("optimizer must not use_ema beside validation, got use_ema=True")
