"""Feature knowledge: a network's inner representations, one example at a time."""

from keras import ops

from distill_lib.losses._checks import check_shape, knob
from distill_lib.losses._inputs import feature_pair
from distill_lib.losses._safe import root, unit


def hint_loss(*, teacher_features, student_features):
    """Return the FitNets hint, 0.5 mean_k (s_k - t_k)^2 over all features k of one example.

    The paper sums. With the mean, one weight of the loss serves layers of any size. Both
    features have one shape; :mod:`distill_lib.features` has adapters to the teacher's.
    Source: Romero et al. (2015), equation 3.
    """
    teacher, student = feature_pair(teacher_features, student_features)
    check_shape("teacher_features", teacher, student.shape, "the shape of student_features")
    squares = ops.square(student - teacher)
    return 0.5 * ops.mean(squares, axis=tuple(range(1, len(squares.shape))))


def attention_transfer_loss(*, teacher_features, student_features, power=2.0, squared=False):
    """Return attention transfer, the distance of Q_s / |Q_s| and Q_t / |Q_t|.

    Q = sum_c |A_c|^power over the channels c tells where in the image a layer is active. A map
    of zeros has 0 in the place of Q / |Q|. The larger the power (above 0), the more only the
    strongest channel counts.

    ``squared=True`` is what the authors' code computes (szagoruyko/attention-transfer #34): the
    mean over positions of the squared differences, whose gradient vanishes near the goal and
    shrinks with the number of positions. Maps are ``(batch, rows, columns, channels)``, with
    the same rows and columns for teacher and student, and any channels.
    Source: Zagoruyko and Komodakis (2017), section 3.1.
    """
    teacher, student = feature_pair(teacher_features, student_features)
    check_shape("student_features", student, (None,) * 4, "the axes of a map")
    check_shape("teacher_features", teacher[..., 0], student.shape[:3], "the student's sizes")
    power = knob("power", power, student.dtype)
    squares = ops.square(_attention(student, power) - _attention(teacher, power))
    return ops.mean(squares, axis=(1, 2)) if squared else root(ops.sum(squares, axis=(1, 2)))


def variational_information_loss(*, teacher_features, student_features, least_variance=1e-5):
    """Return VID, 0.5 mean_k (log var_k + (t_k - mean_k)^2 / var_k) over all features k.

    It is -log of a Gaussian q(t | s), less a constant. The mutual information of the two
    layers is, for each feature, at least the teacher's entropy minus 0.5 log(2 pi) minus the
    expected loss, and exactly that where q is the truth. Where the student cannot know, the
    variance grows. The loss may be negative.

    The teacher's features are ``(batch, ..., channels)`` and the student's ``(batch, ...,
    2 * channels)``: first the means, then numbers r, of which the variance is
    softplus(r) + ``least_variance`` (above 0). A dense adapter gives both. (The paper has one r
    for each channel, whatever the input.)
    Source: Ahn et al. (2019), section 2; 1e-5 as in RepDistiller's VID.
    """
    teacher, student = feature_pair(teacher_features, student_features)
    expected = (*teacher.shape[:-1], 2 * teacher.shape[-1])
    check_shape("student_features", student, expected, "twice the teacher's channels")
    mean, raw = ops.split(student, 2, axis=-1)
    variance = ops.softplus(raw) + knob("least_variance", least_variance, student.dtype)
    terms = ops.log(variance) + ops.square(teacher - mean) / variance
    return 0.5 * ops.mean(terms, axis=tuple(range(1, len(terms.shape))))


def _attention(maps, power):
    """Return Q / |Q|, ``(batch, rows, columns)``, of maps with channels."""
    # The scale falls out of Q / |Q|, but the power of a large number would overflow.
    largest = ops.stop_gradient(ops.max(ops.abs(maps), axis=(1, 2, 3), keepdims=True))
    size = ops.abs(maps) / ops.where(ops.equal(largest, 0), 1.0, largest)
    # The slope of a power at 0 may be infinite.
    zero = ops.equal(size, 0)
    powers = ops.where(zero, 0.0, ops.power(ops.where(zero, 1.0, size), power))
    return unit(ops.sum(powers, axis=-1), axis=(1, 2))
