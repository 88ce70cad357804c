"""The parts of a distiller's loss, as functions of what a training step has gathered."""

import keras
from keras import ops

from distill_lib import counting


def answers_by_name(answer):
    """Return the dictionary that a model returned, or ``{"logits": answer}`` for a tensor."""
    return dict(answer) if isinstance(answer, dict) else {"logits": answer}


def features_of(found, layer):
    """Return the features of a layer; of ``None`` the key ``"features"``, or the logits."""
    if layer is not None:
        return found[layer]
    return found.get("features", found.get("logits"))


def single_weight(sample_weight):
    """Return the weights of the logits: Keras repeats the weights for each entry of y."""
    if isinstance(sample_weight, dict):
        first = next(iter(sample_weight.values()))
        return sample_weight.get("labels", sample_weight.get("logits", first))
    return sample_weight


def wants_teacher(terms, given):
    """Return whether a term needs a signal of a teacher that is not among those given."""
    missing = [name for term in terms for name in term.lacks(given)]
    return any(name.startswith("teacher_") for name in missing)


def judged(loss, given, answer, sample_weight, weightless_counts=True):
    """Return labels and predictions for Keras's loss and metrics.

    What does not count is blanked and masked. A label that counts and is no class makes its
    prediction nan, because Keras's loss gives an error on one device and nan on another.

    Args:
        loss: What ``compile`` was given.
        given: The signals that came with y; ``labels`` among them.
        answer: What the student returned.
        sample_weight: The weights of the examples, or ``None``.
        weightless_counts: Whether an example with the weight 0 stays in the divisor, as in
            Keras's losses; in metrics it does not count.
    """
    labels = given["labels"]
    if not isinstance(labels, dict):
        logits = _entry(answers_by_name(answer), "logits")
        weight = single_weight(sample_weight)
        return _judged(loss, given.get("mask"), labels, logits, weight, weightless_counts)
    pairs = {}
    for name, own in labels.items():
        own_loss = loss.get(name) if isinstance(loss, dict) else loss
        weight = sample_weight.get(name) if isinstance(sample_weight, dict) else sample_weight
        predicted = _entry(answers_by_name(answer), name)
        pairs[name] = _judged(
            own_loss, given.get("mask"), own, predicted, weight, weightless_counts
        )
    labels = {name: pair[0] for name, pair in pairs.items()}
    return labels, {name: pair[1] for name, pair in pairs.items()}


def student_loss(compiled_loss, loss, given, answer, sample_weight):
    """Return Keras's own loss of the labels and the student's answer, a scalar."""
    labels, predicted = judged(loss, given, answer, sample_weight)
    if not isinstance(labels, dict):
        sample_weight = single_weight(sample_weight)
    return compiled_loss(labels, predicted, sample_weight)


def common_signals(loss, given, answer):
    """Return the signals that all terms share: what came with y, the answers, the mask."""
    outputs = answers_by_name(answer)
    signals = {f"student_{name}": output for name, output in outputs.items()} | given
    if isinstance(given.get("labels"), dict):
        signals["labels"] = given["labels"].get("logits")
        loss = loss.get("logits") if isinstance(loss, dict) else loss
    mask = _mask(loss, given.get("mask"), signals.get("labels"), outputs.get("logits"))
    return signals if mask is None else signals | {"mask": mask}


def term_value(term, knobs, signals, asked, sample_weight):
    """Return the value of a term; with live teachers, its mean over all that were asked."""
    stored = dict(signals)
    if isinstance(stored.get("teacher_features"), dict):
        stored["teacher_features"] = _entry(stored["teacher_features"], term.teacher_layer)
    if not asked:
        return term.value_of(stored, knobs, sample_weight)
    values = []
    for answer, found in asked:
        live = {f"teacher_{name}": one for name, one in answers_by_name(answer).items()}
        live["teacher_features"] = features_of(found, term.teacher_layer)
        mask = stored.get("mask")
        for name, one in live.items():
            live[name] = None if one is None else ops.stop_gradient(one)
            if term.uses(name):
                mask = counting.both(mask, counting.mask_of(one))
        own = {**live, **stored} if mask is None else {**live, **stored, "mask": mask}
        values.append(term.value_of(own, knobs, sample_weight))
    return sum(values) / len(values)


def _judged(loss, mask, labels, predicted, sample_weight, weightless_counts):
    mask = _mask(loss, mask, labels, predicted)
    counted = counting.both(mask, counting.has_weight(sample_weight))
    labels = counting.without_uncounted(labels, counted)
    predicted = counting.without_uncounted(predicted, counted)
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        if len(labels.shape) == len(predicted.shape):
            labels = ops.squeeze(labels, axis=-1)
        is_class = ops.logical_and(labels >= 0, labels < predicted.shape[-1])
        predicted = ops.where(is_class[..., None], predicted, float("nan"))
        labels = ops.where(is_class, labels, ops.zeros_like(labels))
    return labels, counting.with_mask(predicted, mask if weightless_counts else counted)


def _mask(loss, given, labels, predicted):
    """What counts by the mask given, by Keras's mask, and by the class that a loss ignores."""
    mask = counting.both(given, counting.mask_of(predicted))
    ignored = getattr(loss, "ignore_class", None)
    if ignored is None or labels is None:
        return mask
    if len(labels.shape) == len(predicted.shape):
        labels = ops.squeeze(labels, axis=-1)
    return counting.both(mask, ops.not_equal(labels, ignored))


def _entry(found, name):
    if name not in found:
        raise ValueError(f"answer must have an entry {name!r}, got {sorted(found)}")
    return found[name]
