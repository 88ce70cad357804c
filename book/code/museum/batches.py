"""Wrong sums and means over a batch, its tokens and its pairs."""

from keras import ops


def kept(values, mask):
    """The values with zeros where masked, and ones and zeros for what counts."""
    counts = ops.ones_like(values) if mask is None else ops.cast(mask, values.dtype)
    return ops.where(counts > 0, values, 0.0), counts


def unweighted(values, sample_weight=None, mask=None):
    """The mean of the values, each with its weight."""
    values, counts = kept(values, mask)
    return ops.sum(values) / ops.sum(counts)


def divided_twice(values, sample_weight=None, mask=None):
    """The mean over the tokens that count."""
    values, counts = kept(values, mask)
    per_token = values / ops.sum(counts)
    return ops.sum(per_token) / ops.sum(counts)


def padding_counted(values, sample_weight=None, mask=None):
    """The mean over the tokens that count."""
    values, _ = kept(values, mask)
    return ops.mean(values)


def mean_of_means(values, sample_weight=None, mask=None):
    """The mean over the tokens that count, in micro-batches of one sequence each."""
    values, counts = (ops.reshape(x, (len(x), -1)) for x in kept(values, mask))
    return ops.mean(ops.sum(values, axis=1) / ops.sum(counts, axis=1))


def with_diagonal(*, teacher_features, student_features, mask=None):
    """RKD: Huber's loss between distances, each relative to the mean distance."""
    relative = []
    for features in (teacher_features, student_features):
        squares = ops.sum(ops.square(features[:, None] - features[None, :]), axis=-1)
        distances = ops.sqrt(squares + 1e-12)
        relative.append(distances / ops.mean(distances))
    gap = ops.abs(relative[0] - relative[1])
    return ops.mean(ops.where(gap <= 1, 0.5 * gap**2, gap - 0.5), axis=1)


def neighbours_in_line(*, teacher_features, student_features, mask=None):
    """How far the relations between the examples of a batch differ in the two networks."""
    gap = ops.abs(student_features - teacher_features)
    return ops.sum(gap[:-1] * gap[1:], axis=1)
