"""Several labels at once: every label is a question of its own, with the answers yes and no.

The last layer of such a network ends in a sigmoid for each label, not in a softmax over them.
In a softmax loss a teacher that is sure of all labels would look like one that knows nothing.
Logits are ``(..., labels)`` before the sigmoid. One label is enough, so these losses also serve
a binary task with a single output. Both return ``(...)``: the mean over labels, in nats.
"""

from math import inf, nan

from keras import ops

from distill_lib.losses._checks import check_shape, in_range, knob, require
from distill_lib.losses._inputs import as_floats, as_logits, logit_pair
from distill_lib.losses._safe import divergence


def bernoulli_soft_target_loss(
    *, teacher_logits, student_logits, temperature=1.0, positive_weight=None
):
    """Return T^2 mean_l u_l KL(p_l || q_l), where p_l and q_l are the chances of yes or no.

    p_l = sigmoid(v_l / T) is the teacher's chance that label l applies, q_l = sigmoid(z_l / T)
    the student's. For N labels the gradient with respect to z_l is T u_l (q_l - p_l) / N.

    ``positive_weight`` w meets imbalance: a scalar, or one number for each label, above 0. It
    weighs label l by u_l = 1 + (w_l - 1) p_l: by w_l where the teacher is sure of yes, by 1
    where it is sure of no, as :func:`binary_label_loss` weighs hard labels. There only the half
    for yes is weighed. For soft targets that would move the minimum away from the teacher, to
    q = w p / (w p + 1 - p). A factor before the whole divergence leaves the minimum at q = p.
    Source: Yang et al. (2023) for the divergence of one label against all others.
    """
    teacher, student = logit_pair(teacher_logits, student_logits, least=1)
    temperature = knob("temperature", temperature, student.dtype)
    log_p, log_q = _log_yes_no(teacher, temperature), _log_yes_no(student, temperature)
    weights = 1 + (_label_weights(positive_weight, student) - 1) * ops.exp(log_p[..., 0])
    return temperature**2 * ops.mean(weights * divergence(log_p, log_q), axis=-1)


def binary_label_loss(*, labels, student_logits, positive_weight=None):
    """Return the binary cross-entropy, mean_l (-w_l y_l log q_l - (1 - y_l) log(1 - q_l)).

    The labels y are ``(..., labels)``, each 1 where it applies, 0 where not, or a number
    between. q = sigmoid(z). ``positive_weight`` w is a scalar, or one number for each label,
    above 0. Often it is the number of examples without the label divided by that of those with
    it (``pos_weight`` in PyTorch, and in TensorFlow's ``weighted_cross_entropy_with_logits``).

    Raises:
        ValueError: for labels outside [0, 1].
    """
    student = as_logits("student_logits", student_logits, least=1)
    (labels,) = as_floats(labels)
    labels = ops.cast(labels, student.dtype)
    check_shape("labels", labels, student.shape, "the shape of student_logits")
    labels = require("labels", labels, (labels >= 0) & (labels <= 1), "lie in [0, 1]")
    log_q, chances = _log_yes_no(student, 1.0), ops.stack([labels, 1 - labels], axis=-1)
    # 0 * (-inf) is 0: an answer that neither the label nor the student thinks possible.
    never = ops.logical_and(ops.equal(chances, 0), ops.equal(log_q, -inf))
    terms = -chances * ops.where(never, 0.0, log_q)
    weights = _label_weights(positive_weight, student)
    return ops.mean(weights * terms[..., 0] + terms[..., 1], axis=-1)


def _log_yes_no(logits, temperature):
    """Return the logarithms of (sigmoid(x), 1 - sigmoid(x)), ``(..., labels, 2)``."""
    logits = ops.where(ops.equal(logits, inf), nan, logits)  # an overflow, not a belief
    return -ops.softplus(ops.stack([-logits, logits], axis=-1) / temperature)


def _label_weights(positive_weight, logits):
    """Return the weights of yes, a scalar or ``(labels,)``."""
    if positive_weight is None:
        return ops.ones((), logits.dtype)
    weights = ops.convert_to_tensor(positive_weight)
    if len(weights.shape) == 0:
        return knob("positive_weight", positive_weight, logits.dtype)
    rule = "one number for all labels, or one for each,"
    check_shape("positive_weight", weights, logits.shape[-1:], rule)
    return in_range("positive_weight", ops.cast(weights, logits.dtype))
