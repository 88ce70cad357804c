"""A teacher of whom only the k most probable classes are known, and all others as one outcome.

What is compared are k + 1 outcomes: each kept class, and "any other class". Merging outcomes
never raises a divergence, so these losses are lower bounds of the divergence of all classes.
Both arrays of the teacher come from ``arrays_by_name`` of a stored signal.
"""

from numbers import Real

from keras import ops

from distill_lib.losses._checks import check_shape, in_range, knob
from distill_lib.losses._inputs import as_floats, as_logits, on_leading_axes
from distill_lib.losses._safe import divergence

NOTHING = -1e30  # the logarithm of an empty sum, but finite, so that its gradient is 0, not nan


def top_k_soft_target_loss(
    *, teacher_classes, teacher_log_probabilities, student_logits, teacher_temperature=1.0
):
    """The soft target loss of k + 1 outcomes, T^2 sum_j P_j (log P_j - log Q_j).

    P and Q are the probabilities of the k kept classes and, last, of all others together. The
    loss is at most :func:`~distill_lib.losses.soft_target_loss` of all classes, equal to it
    for k = N and k = N - 1, and 0 with a gradient of 0 where the student's probabilities are
    the teacher's. Its gradient with respect to z is T (q - p'), where p' divides the teacher's
    tail as the student divides its own: what the teacher thinks of single classes in the tail
    is not known, and not taught.

    Args:
        teacher_classes: the numbers of the kept classes, integers ``(..., k)``, no two equal.
        teacher_log_probabilities: their log-probabilities at T and, last, that of all other
            classes together, ``(..., k + 1)``; minus infinity means "never". They are scaled
            to sum to 1 exactly, which rounded ones do not.
        student_logits: logits of all N classes, ``(..., N)``.
        teacher_temperature: T above 0, the one at which the probabilities were stored and at
            which the student is compared: a number, or numbers on leading axes.

    Returns:
        one value in nats for each example, ``(...)``. It is nan where a class is not one of
        the N, where two are equal, and where a log-probability is nan.

    Source: the log-sum inequality for the bound (Cover and Thomas, 2006, theorem 2.7.1).
    """
    student_logits, log_p = as_floats(student_logits, teacher_log_probabilities)
    log_q, temperature = _student_log_probabilities(student_logits, teacher_temperature)
    classes, is_kept, is_valid = _checked_classes(teacher_classes, log_q)
    expected = (*classes.shape[:-1], classes.shape[-1] + 1)
    check_shape("teacher_log_probabilities", log_p, expected, "k + 1 entries for k classes,")
    is_valid = ops.logical_and(is_valid, ops.logical_not(ops.any(ops.isnan(log_p), axis=-1)))
    # Replaced before all else: where an answer is not valid, nan times 0 would be the gradient.
    log_p = ops.log_softmax(ops.where(is_valid[..., None], log_p, 0.0), axis=-1)
    kept = ops.take_along_axis(log_q, classes, axis=-1)
    others = ops.logsumexp(ops.where(is_kept, NOTHING, log_q), axis=-1, keepdims=True)
    values = divergence(log_p, ops.concatenate([kept, others], axis=-1))
    return ops.where(is_valid, temperature**2 * values, float("nan"))


def kept_mass(*, teacher_classes, student_logits, teacher_temperature=1.0):
    """The probability that the student gives to the classes that were kept of the teacher.

    A number from 0 to 1 for each example, ``(...)``, to be watched as a metric. It should come
    near :func:`teacher_kept_mass`. If it falls in training, the student escapes: it lowers a
    loss that sees the kept classes alone by leaving them, which a loss of k + 1 outcomes does
    not reward. Arguments and nan are those of :func:`top_k_soft_target_loss`.
    """
    log_q, _ = _student_log_probabilities(student_logits, teacher_temperature)
    _, is_kept, is_valid = _checked_classes(teacher_classes, log_q)
    mass = ops.sum(ops.where(is_kept, ops.exp(log_q), 0.0), axis=-1)
    return ops.where(is_valid, mass, float("nan"))


def teacher_kept_mass(*, teacher_log_probabilities):
    """The probability that the teacher gives to its k kept classes, ``(...)``, from 0 to 1."""
    (log_p,) = as_floats(teacher_log_probabilities)
    p = ops.exp(log_p)
    return ops.sum(p[..., :-1], axis=-1) / ops.sum(p, axis=-1)


def _student_log_probabilities(student_logits, teacher_temperature):
    """log q ``(..., N)`` at T, and T for each example."""
    name, logits = "teacher_temperature", as_logits("student_logits", student_logits)
    if isinstance(teacher_temperature, Real):
        temperature = knob(name, teacher_temperature, logits.dtype)
    else:
        temperature = ops.convert_to_tensor(teacher_temperature)
    temperature = in_range(name, on_leading_axes(name, temperature, logits[..., 0]))
    return ops.log_softmax(logits / temperature[..., None], axis=-1), temperature


def _checked_classes(teacher_classes, log_q):
    """Classes ``(..., k)`` brought into range, booleans ``(..., N)`` that are true at them,
    and booleans ``(...)``: whether all classes were in range, and no two of them equal.
    """
    given = ops.cast(ops.convert_to_tensor(teacher_classes), "int64")
    class_count = log_q.shape[-1]
    expected = (*log_q.shape[:-1], None)
    check_shape("teacher_classes", given, expected, "k classes for each example,")
    if not 1 <= given.shape[-1] <= class_count:
        rule = f"hold from 1 to {class_count} classes for each example"
        raise ValueError(f"teacher_classes must {rule}, got shape {tuple(given.shape)}")
    classes = ops.clip(given, 0, class_count - 1)
    # A sum by segments, because one-hot rows would take k times the memory of the logits.
    flat = ops.reshape(classes, (-1, classes.shape[-1]))
    example_count = ops.cast(ops.shape(flat)[0], "int64")
    places = flat + class_count * ops.arange(example_count, dtype="int64")[:, None]
    places = ops.reshape(places, (-1,))
    ones = ops.ones_like(places, dtype=log_q.dtype)
    counts = ops.segment_sum(ones, places, num_segments=example_count * class_count)
    counts = ops.reshape(counts, ops.shape(log_q))
    is_in_range = ops.all(ops.equal(classes, given), axis=-1)
    is_valid = ops.logical_and(is_in_range, ops.max(counts, axis=-1) <= 1)
    return classes, counts > 0, is_valid
