"""The label loss and the metrics of ``compile``: do they fit logits, and the terms?"""

import inspect

import keras

from distill_lib.activations import PROBABILITIES, last_activation

LOSSES_OF_PROBABILITIES = ("KLDivergence", "Poisson")
LOSSES_OF_SEVERAL_LABELS = ("BinaryCrossentropy", "BinaryFocalCrossentropy")
LOSSES_OF_ONE_CLASS = {"soft_target_loss", "mixed_loss", "reverse_kl_loss", "skew_kl_loss"}
LOSSES_OF_ONE_CLASS |= {"jensen_shannon_loss", "decoupled_loss", "standardised_target_loss"}
LOSSES_OF_ONE_CLASS |= {"correlation_loss", "top_k_soft_target_loss", "hard_label_loss"}
ACCURACIES = ("accuracy", "acc", "binary_accuracy", "binaryaccuracy")


def check_takes_logits(loss, student, terms):
    """Refuse a label loss that takes logits for probabilities, or the other way round."""
    own = loss.get("logits") if isinstance(loss, dict) else loss
    activation = last_activation(student)
    gives_logits = any(term.uses("student_logits") for term in terms) or activation == "linear"
    takes = _takes_probabilities(own)
    if gives_logits and takes:
        rule = "take logits: give a loss object with from_logits=True"
        raise ValueError(f"loss must {rule}, got {own!r}")
    if activation in PROBABILITIES and takes is False:
        rule = (
            f"take probabilities (from_logits=False), because the student ends in {activation}"
        )
        raise ValueError(f"loss must {rule}, got {own!r}")


def check_several_labels(loss, metrics, terms):
    """Refuse what is meant for one class of several beside a loss of yes or no for each label.

    Args:
        loss: The label loss of ``compile``; only one of several labels is looked at.
        metrics: The metrics of ``compile``.
        terms: The terms of the distiller.
    """
    own = loss.get("logits") if isinstance(loss, dict) else loss
    if type(own).__name__ not in LOSSES_OF_SEVERAL_LABELS:
        return
    for term in terms:
        if term.name in LOSSES_OF_ONE_CLASS:
            rule = "be bernoulli_soft_target_loss or the like beside a binary label loss"
            raise ValueError(
                f"distillation_losses must {rule}, got {term.name}: a softmax loss"
            )
    for one in keras.tree.flatten(metrics):
        is_binary = isinstance(one, keras.metrics.BinaryAccuracy) and one.threshold != 0
        if is_binary or (isinstance(one, str) and one.lower() in ACCURACIES):
            remedy = "write keras.metrics.BinaryAccuracy(threshold=0.0)"
            raise ValueError(
                f"metrics must take logits beside this loss: {remedy}, got {one!r}"
            )


def _takes_probabilities(loss):
    """Whether a loss of Keras takes probabilities; ``None`` for one that does not care."""
    if isinstance(loss, str):
        if loss.lower() in ("crossentropy", "ce"):
            return True
        loss = keras.losses.get(loss)
    if isinstance(loss, (list, tuple)):
        loss = loss[0]
    if type(loss).__name__ in LOSSES_OF_PROBABILITIES:
        return True
    if hasattr(loss, "from_logits"):
        return not loss.from_logits
    is_function = callable(loss) and not isinstance(loss, keras.losses.Loss)
    if not is_function:
        return None
    if loss in (keras.losses.kl_divergence, keras.losses.poisson):
        return True
    option = inspect.signature(loss).parameters.get("from_logits")
    return None if option is None else not option.default
