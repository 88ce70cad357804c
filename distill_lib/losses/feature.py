"""Feature knowledge: a network's inner representations, one example at a time."""

from keras import ops

from distill_lib.losses._inputs import check_shape, feature_pair, positive
from distill_lib.losses._safe import root, unit


def hint_loss(*, teacher_features, student_features):
    """The FitNets hint, 0.5 mean_k (s_k - t_k)^2 over all features k of one example.

    The paper sums; with the mean, one loss weight serves layers of any size. Both have one
    shape, see :func:`distill_lib.features.with_outputs` for adapters.
    Source: Romero et al. (2015), equation 3.
    """
    teacher, student = feature_pair(teacher_features, student_features)
    check_shape("teacher_features", teacher, student.shape, "the shape of student_features")
    squares = ops.square(student - teacher)
    return 0.5 * ops.mean(squares, axis=tuple(range(1, len(squares.shape))))


def attention_transfer_loss(*, teacher_features, student_features, power=2.0, squared=False):
    """Attention transfer, |Q_s / |Q_s| - Q_t / |Q_t||, Q = sum_c |A_c|^power over channels.

    Q tells where in the image a layer is active; for a map of zeros it is 0. The larger the
    power (above 0), the more only the strongest channel counts. ``squared`` is the paper's
    code (szagoruyko/attention-transfer #34): the mean over positions of the squared
    differences, whose gradient vanishes near the goal and shrinks with their number. Maps are
    ``(batch, rows, columns, channels)`` with equal rows and columns.
    Source: Zagoruyko and Komodakis (2017), section 3.1.
    """
    teacher, student = feature_pair(teacher_features, student_features)
    check_shape("student_features", student, (None,) * 4, "the axes of a map")
    check_shape("teacher_features", teacher[..., 0], student.shape[:3], "the student's sizes")
    power = positive("power", power, student.dtype)
    squares = ops.square(_attention(student, power) - _attention(teacher, power))
    return ops.mean(squares, axis=(1, 2)) if squared else root(ops.sum(squares, axis=(1, 2)))


def variational_information_loss(*, teacher_features, student_features, least_variance=1e-5):
    """VID, 0.5 mean_k (log var_k + (t_k - mean_k)^2 / var_k): -log of a Gaussian q(t | s).

    Per feature, the layers' mutual information is at least the teacher's entropy minus
    0.5 log(2 pi) minus the expected loss, and exactly that where q is the truth. Where the
    student cannot know, the variance grows. May be negative.
    The teacher's features are ``(batch, ..., channels)``, the student's ``(batch, ...,
    2 * channels)``: the means, then r with the variance softplus(r) + ``least_variance`` (above
    0); a dense adapter gives both. (The paper has one r a channel, whatever the input.)
    Source: Ahn et al. (2019), section 2; 1e-5 as in RepDistiller's VID.
    """
    teacher, student = feature_pair(teacher_features, student_features)
    expected = (*teacher.shape[:-1], 2 * teacher.shape[-1])
    check_shape("student_features", student, expected, "twice the teacher's channels")
    mean, raw = ops.split(student, 2, axis=-1)
    variance = ops.softplus(raw) + positive("least_variance", least_variance, student.dtype)
    terms = ops.log(variance) + ops.square(teacher - mean) / variance
    return 0.5 * ops.mean(terms, axis=tuple(range(1, len(terms.shape))))


def _attention(maps, power):
    """``(batch, rows, columns, channels)`` -> ``(batch, rows, columns)`` of length 1."""
    # The scale falls out of Q / |Q|, but the power of a large number would overflow.
    largest = ops.stop_gradient(ops.max(ops.abs(maps), axis=(1, 2, 3), keepdims=True))
    size = ops.abs(maps) / ops.where(largest > 0, largest, 1.0)
    # A power's slope at 0 may be infinite, and infinity times 0 would be nan.
    powers = ops.where(size > 0, ops.power(ops.where(size > 0, size, 1.0), power), 0.0)
    return unit(ops.sum(powers, axis=-1), axis=(1, 2))
