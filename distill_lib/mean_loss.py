"""The mean of a loss over the examples that count: one rule for all ways of training."""

import inspect

from keras import ops

from distill_lib import counting, losses

REDUCTION = {"sample_weight", "mask"}  # signals that act in every loss


def parameters_of(loss):
    """Return the arguments of a loss by name, and whether it takes any others too."""
    parameters = inspect.signature(loss).parameters
    named = {name: one for name, one in parameters.items() if one.kind is not one.VAR_KEYWORD}
    return named, len(named) < len(parameters)


def wanted(loss, signals):
    """Return the signals that ``loss`` names among its arguments, or all if it takes any."""
    named, takes_any = parameters_of(loss)
    return {name: one for name, one in signals.items() if takes_any or name in named}


def student_signals(outputs):
    """Return the outputs of a student as the signals that a loss takes, by name."""
    outputs = outputs if isinstance(outputs, dict) else {"logits": outputs}
    return {f"student_{name}": output for name, output in outputs.items()}


def mean_loss(loss, signals, knobs):
    """Return the mean of a loss over what counts, and the number of values that it is of.

    Features with three axes, ``(batch, steps, width)``, are compared step by step: each step is
    an example of its own. To compare whole sequences, pool them in the model. Features with
    more axes, such as maps, are compared as wholes: a mask of pixels leaves out the images
    without any pixel that counts.

    Args:
        loss: A function of named signals with one value for each example.
        signals: Tensors by name. ``"mask"`` (true counts), ``"sample_weight"`` and the masks
            that Keras keeps with the others act in every loss, see :mod:`distill_lib.counting`.
            A loss that names ``mask`` is given it, false also where the weight is 0; one that
            names ``sample_weight`` weighs by itself.
        knobs: The other arguments of the loss, by name.

    Returns:
        Two scalars: sum(weight * mask * value) / sum(mask), and sum(mask).
    """
    named, _ = parameters_of(loss)
    mask, weight = signals.get("mask"), signals.get("sample_weight")
    used = {n: one for n, one in wanted(loss, signals).items() if n not in REDUCTION}
    for value in used.values():
        mask = counting.both(mask, counting.mask_of(value))
    counted = counting.both(mask, counting.has_weight(weight))
    # What does not count is blanked first: it may be nan, and so would be its gradient.
    for name, value in used.items():
        used[name] = counting.without_uncounted(value, counted, _example_axes(name, value))
    if weight is not None and "sample_weight" in named:
        used["sample_weight"], weight = weight, None
    values = _values(loss, used, knobs, counted if "mask" in named else None)
    if mask is None and weight is None:
        return ops.mean(values), ops.cast(ops.size(values), "float32")
    everywhere = ops.ones_like(values, dtype="bool")
    mask = counting.both(counting.with_axes(mask, len(values.shape)), everywhere)
    mean = losses.weighted_mean(values, weight, mask)
    return mean, ops.sum(ops.cast(mask, "float32"))


def _values(loss, used, knobs, mask):
    """One value for each example; of features with steps, for each step."""
    features = used.get("student_features")
    only_features = all(name.endswith("_features") for name in used)
    if features is None or not only_features or len(features.shape) != 3:
        return loss(**used, **knobs, **_mask_for(used, mask))
    shape = ops.shape(features)[:2]
    flat = {name: _steps_as_examples(value) for name, value in used.items()}
    if mask is not None:
        mask = _steps_as_examples(counting.both(mask, ops.ones(shape, "bool")))
    return ops.reshape(loss(**flat, **knobs, **_mask_for(flat, mask)), shape)


def _mask_for(used, mask):
    """The mask on the axes of the examples, as an argument for the loss."""
    if mask is None:
        return {}
    is_of_features = "student_features" in used or "student_logits" not in used
    axes = 1 if is_of_features else len(used["student_logits"].shape) - 1
    return {"mask": counting.with_axes(mask, axes)}


def _example_axes(name, signal):
    """How many leading axes of a signal number examples."""
    axes = len(signal.shape)
    if name.endswith("_features"):
        return 2 if axes == 3 else 1
    has_classes_last = name.startswith(("teacher_", "student_"))
    return max(axes - 1, 1) if has_classes_last else axes


def _steps_as_examples(tensor):
    """``(batch, steps, ...)`` -> ``(batch * steps, ...)``."""
    return ops.reshape(tensor, (-1, *tensor.shape[2:]))
