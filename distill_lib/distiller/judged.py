"""What Keras's losses and metrics take: labels and answers, without what does not count."""

from typing import NamedTuple

import keras
from keras import ops

from distill_lib import counting


def answers_by_name(answer):
    """Return the dictionary that a model returned, or ``{"logits": answer}`` for a tensor."""
    return dict(answer) if isinstance(answer, dict) else {"logits": answer}


def weight_of(sample_weight, output="logits"):
    """Return the weights of one output, of the structure that Keras wants: that of y."""
    while isinstance(sample_weight, dict):
        first = next(iter(sample_weight.values()))
        sample_weight = sample_weight.get("labels", sample_weight.get(output, first))
    return sample_weight


class Judged(NamedTuple):
    """What Keras's losses and metrics need of one output.

    Attributes:
        labels, predicted: With zeros where they do not count.
        mask: What counts by masks and ignored classes, ``(...)`` for predictions
            ``(..., classes)``, or ``None``.
        weight: The sample weights with as many axes as the mask, or ``None``.
    """

    labels: object
    predicted: object
    mask: object
    weight: object

    def counts(self):
        """Return the mask of what counts in a metric: there a weight of 0 is a mask."""
        return counting.both(self.mask, counting.has_weight(self.weight))


def judged(loss, given, answer, sample_weight):
    """Return :class:`Judged` of the student's answer, or a dictionary of them by output.

    A label that counts and is no class makes its prediction nan, because Keras's loss gives an
    error on one device and nan on another.

    Args:
        loss: What ``compile`` was given.
        given: The signals that came with y; ``labels`` among them.
        answer: What the student returned.
        sample_weight: The weights of the examples, or ``None``.
    """
    labels, mask = given["labels"], given.get("mask")
    if isinstance(loss, dict) and not isinstance(labels, dict):
        labels = {"logits": labels}
    outputs = {}
    for name, own in (labels if isinstance(labels, dict) else {"logits": labels}).items():
        predicted = entry(answers_by_name(answer), name)
        weight = weight_of(sample_weight, name)
        outputs[name] = _judged(loss_of(loss, name), mask, own, predicted, weight)
    return outputs if isinstance(labels, dict) else outputs["logits"]


def student_loss(compiled_loss, outputs):
    """Return Keras's own loss of what :func:`judged` returned, a scalar."""
    if isinstance(outputs, Judged):
        predicted = counting.with_mask(outputs.predicted, outputs.mask)
        return compiled_loss(outputs.labels, predicted, outputs.weight)
    labels, predicted, weights = {}, {}, {}
    for name, one in outputs.items():
        labels[name], weights[name] = one.labels, one.weight
        predicted[name] = counting.with_mask(one.predicted, one.mask)
    return compiled_loss(labels, predicted, weights)


def update_metrics(compiled_metrics, outputs):
    """Update the metrics of ``compile`` with what :func:`judged` returned.

    Keras gives masks and weights of 0 to few of them. An AUC would take blanks for examples.
    """
    by_name = {"": outputs} if isinstance(outputs, Judged) else outputs
    labels = {name: one.labels for name, one in by_name.items()}
    predicted = {name: one.predicted for name, one in by_name.items()}
    if not compiled_metrics.built:
        compiled_metrics.build(labels, predicted)
    names = compiled_metrics._resolved_output_names or list(by_name)
    plain, weighted = compiled_metrics._flat_metrics, compiled_metrics._flat_weighted_metrics
    for name, own, own_weighted in zip(names, plain, weighted, strict=True):
        one = by_name[name]
        counts = one.counts()
        if own:
            _update(own, one, counts)
        if own_weighted:
            has_weight = one.weight is not None
            weight = ops.where(counts, one.weight, 0.0) if has_weight else counts
            _update(own_weighted, one, weight)


def loss_of(loss, output):
    """Return the loss of one output, out of what ``compile`` was given."""
    if isinstance(loss, dict):
        return loss.get(output)
    if isinstance(loss, (list, tuple)):
        if len(loss) != 1:
            rule = "be one loss, or a dictionary of losses by output"
            raise ValueError(f"loss must {rule}, got a list of {len(loss)}")
        return loss[0]
    return loss


def mask_of_answer(loss, given, labels, predicted):
    """Return what counts by the mask given, by that of Keras, and by an ignored class."""
    mask = counting.both(given, counting.mask_of(predicted))
    ignored = getattr(loss, "ignore_class", None)
    if ignored is None or labels is None:
        return mask
    if len(labels.shape) == len(predicted.shape):
        labels = ops.squeeze(labels, axis=-1)
    return counting.both(mask, ops.not_equal(labels, ignored))


def entry(found, key, name="answer"):
    """Return one entry of a dictionary; an unknown key is refused."""
    if key not in found:
        raise ValueError(f"{name} must have an entry {key!r}, got {sorted(found)}")
    return found[key]


def _judged(loss, mask, labels, predicted, weight):
    mask = mask_of_answer(loss, mask, labels, predicted)
    axes = len(predicted.shape) - 1
    if axes < 1:
        if mask is not None or weight is not None:
            # Keras's losses would take the mean over the batch first.
            rule = "have a last axis, such as that of Dense(1), to be masked or weighted"
            raise ValueError(f"answer must {rule}, got shape {tuple(predicted.shape)}")
        return Judged(labels, predicted, None, None)
    mask = counting.with_all_axes(mask, predicted, axes)
    weight = counting.weight_with_axes(weight, axes)
    counted = counting.both(mask, counting.has_weight(weight))
    labels = counting.without_uncounted(labels, counted, min(axes, len(labels.shape)))
    predicted = counting.without_uncounted(predicted, counted, axes)
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        if len(labels.shape) == len(predicted.shape):
            labels = ops.squeeze(labels, axis=-1)
        is_class = ops.logical_and(labels >= 0, labels < predicted.shape[-1])
        predicted = ops.where(is_class[..., None], predicted, float("nan"))
        labels = ops.where(is_class, labels, ops.zeros_like(labels))
    return Judged(labels, predicted, mask, weight)


def _update(metrics, output, weight):
    try:
        metrics.update_state(output.labels, output.predicted, weight)
    except ValueError as error:
        names = [one.name for one in metrics.metrics]
        rule = "take labels and predictions, and give each example a value that can be weighted"
        raise ValueError(f"metrics must {rule}, got {names}: {error}") from error
