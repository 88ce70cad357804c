"""Many students at once.

A student of a few thousand weights leaves a processor idle: most of its time goes into
starting operations. :func:`train_many` stacks the weights of all students along a new axis
and runs them as one program, each with its own start, order of batches and temperature.
"""

import keras
from keras import layers

from distill_lib.training.arguments import as_knobs, as_seeds, check_counts, check_data
from distill_lib.training.batches import Data, as_subsets, per_seed
from distill_lib.training.optimizers import Recipe
from distill_lib.training.runs import Run
from distill_lib.training.stacked import Program
from distill_lib.training.starts import new_student, starting_weights
from distill_lib.training.students import STUDENTS_PER_CALL, Student, Students

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
    """Train a new student for each seed, all at once where layers and optimizer allow it.

    The results are those of separate trainings from the same weights on the same batches, up
    to rounding. Students with layers outside :data:`STACKABLE` or with constraints are trained
    one by one by one compiled program, which saves less time. So are those of an optimizer
    whose update is not elementwise, such as Lamb, or which clips norms.

    ``build``, a signal or a number may be a list with one entry for each seed; then every
    student has its own. Otherwise all students have the same.

    Args:
        build: A function that returns a new, built ``keras.Model``, always of one architecture.
            Its weights must depend on nothing but the seed of
            ``keras.utils.set_random_seed``. Its output is ``student_logits``; if the output is
            a dictionary, the loss is given each entry ``key`` as ``student_<key>``.
        x: An array ``(n, ...)`` of inputs.
        signals: What ``loss`` takes beside the student's outputs, by name, such as
            ``{"labels": y, "teacher_logits": v}``: arrays with n rows, or stored signals of
            :mod:`distill_lib.signals`. ``sample_weight`` and ``mask`` (true counts) act in
            every loss as in :func:`~distill_lib.losses.weighted_mean`. Their shape is ``(n,)``,
            or has further axes of the examples, such as steps. A mask that Keras keeps with
            the student's output counts too.
        loss: A function of named signals with one value for each example, such as those of
            :mod:`distill_lib.losses`. Its mean over the batch and the model's own
            regularisation are minimised.
        seeds: Integers from 0. Students with equal seeds have equal starts and batches,
            whatever their loss is.
        steps: The number of updates of each student; the largest number with ``patience``.
        batch_size: The number of examples in each batch. A batch may reach over the end of one
            pass over the examples into the next.
        learning_rate: The rate of Adam, a number or a Keras schedule; 0.001 by default.
        optimizer: An unused Keras optimizer, of which each student gets a copy, or a name such
            as ``"sgd"``; Adam by default.
        subsets: A list of arrays of row numbers, one for each seed and of any lengths: the
            examples that this student is trained on. By default these are all examples.
        validation: A pair ``(x, signals)`` of other examples. Every student is returned with
            the weights that had the lowest mean loss on them. By default it is returned with
            its last weights.
        validation_loss: The loss on these examples, which is taken without regularisation;
            ``loss`` by default.
        evaluate_every: The number of updates between two evaluations. The students are also
            evaluated after the last update.
        patience: After how many evaluations without a new best a student stops. By default it
            never stops early.
        verbose: 1 shows a progress bar, 0 shows nothing.
        **knobs: Finite numbers that ``loss`` takes: ``temperature=4.0``, or for two seeds
            ``temperature=[1.0, 4.0]``.

    Returns:
        A :class:`~distill_lib.training.students.Students`: a sequence of trained, uncompiled
        ``keras.Model`` in the order of ``seeds``, with ``curves`` and ``predict``.

    Raises:
        ValueError: If arguments do not fit each other; if the loss lacks a signal, does not
            take one, or refuses a value; if numbers that count are not finite, or labels are
            outside the classes; or if a loss or a weight becomes nan or infinite.
    """
    seeds = as_seeds(seeds)
    counts = {"steps": steps, "batch_size": batch_size, "evaluate_every": evaluate_every}
    check_counts(counts if patience is None else {**counts, "patience": patience})
    recipe = Recipe(optimizer, learning_rate)
    knobs = as_knobs(loss, knobs, seeds)
    data = Data(x, signals, seeds)
    subsets = as_subsets(subsets, len(data.x), seeds)
    builds = per_seed("build", build, seeds)
    starts, worker, built = starting_weights(builds, seeds)
    check_data(data, loss, worker, knobs, subsets)
    _check_validation(validation, validation_loss, patience, recipe)
    validation_loss = validation_loss or loss
    if validation is not None:
        validation = Data(*validation, seeds, prefix="validation ")
        all_rows = as_subsets(None, len(validation.x), seeds)
        check_data(validation, validation_loss, worker, knobs, all_rows)
    watch = validation, validation_loss, evaluate_every, patience
    run = Run(data, loss, recipe, builds, seeds, subsets, steps, batch_size, knobs, *watch)
    return _train_groups(run, starts, worker, built, verbose)


def _train_groups(run, starts, worker, built, verbose):
    """Train the students in groups that are one program each, the program used again."""
    is_constrained = any(map(_has_constraint, [worker, *built.values()]))
    is_stackable = _is_stackable(worker) and not is_constrained
    size = STUDENTS_PER_CALL if is_stackable and run.recipe.is_stackable else 1
    bar = keras.utils.Progbar(run.steps * -(-len(starts) // size), verbose=verbose)
    students, program = [], None
    for first in range(0, len(starts), size):
        numbers = range(len(starts))[first : first + size]
        if is_constrained and first:  # a constraint belongs to the weights of one model
            worker = built.get(first) or new_student(run.builds[first], run.seeds[first])
        if program is None or program.count != len(numbers) or is_constrained:
            program = Program(worker, len(numbers), run)
        weights, curves = run.train(program, starts[first : first + size], numbers, bar)
        for k, number in enumerate(numbers):
            own = [values[k] for values in weights]
            students.append(Student(run.builds[number], run.seeds[number], own, curves[k]))
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
