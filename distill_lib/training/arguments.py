"""What :func:`~distill_lib.training.train_many` is given, checked by name before it begins."""

import math
from numbers import Integral, Real

import numpy as np

from distill_lib.mean_loss import REDUCTION, parameters_of, student_signals, wanted
from distill_lib.training.batches import per_seed
from distill_lib.training.row_checks import check_rows
from distill_lib.training.stacked import mask_of, objective

EXAMPLES_TRIED = 128


def as_seeds(seeds):
    """Return a list of Python integers from 0."""
    if not hasattr(seeds, "__iter__"):
        raise ValueError(f"seeds must be a sequence of integers such as range(3), got {seeds}")
    seeds = list(seeds)
    check_counts({"len(seeds)": len(seeds)})
    for seed in seeds:
        if not isinstance(seed, Integral) or seed < 0:
            raise ValueError(f"seeds must be integers from 0, got {seed!r}")
    return [int(seed) for seed in seeds]


def check_counts(counts):
    """Refuse what is not a whole number of at least 1; ``counts`` are by name."""
    for name, value in counts.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value}")


def as_knobs(loss, knobs, seeds):
    """Return a list for each number that the loss takes, with an entry for each seed."""
    named, takes_any = parameters_of(loss)
    unknown = sorted(knobs.keys() - named.keys())
    if unknown and not takes_any:
        rule = "must be options of train_many or arguments of its loss"
        raise ValueError(f"keywords {rule} {_name_of(loss)}, got {unknown}")
    found = {}
    for name, value in knobs.items():
        entries = per_seed(name, value, seeds, many=(list, tuple, np.ndarray))
        for one in entries:
            is_scalar = isinstance(one, Real) or getattr(one, "shape", None) == ()
            if not is_scalar or not math.isfinite(one):
                rule = f"{name} must be a finite number (or one for each seed)"
                raise ValueError(f"{rule}, got {one!r}")
        found[name] = [float(one) for one in entries]
    return found


def check_data(data, loss, student, knobs, subsets):
    """Refuse signals and numbers that do not fit the loss, before anything is compiled.

    The loss is tried with every set of knobs on the first examples, so that it may refuse
    them by name, which a compiled step does not.
    """
    knobs = wanted(loss, knobs)
    inputs, signals = data.batch(0, np.arange(min(len(data.x), EXAMPLES_TRIED)))
    answers = student(inputs)
    outputs = student_signals(answers)
    _check_names(loss, data.each, outputs, knobs, data.prefix)
    _check_mask(inputs, signals, outputs)
    own_mask = None if mask_of(answers) is None else _own_mask(data, student)
    check_rows(data, subsets, own_mask, _class_count(signals, outputs))
    for values in set(zip(*knobs.values(), strict=True)) if knobs else [()]:
        objective(loss, signals, answers, dict(zip(knobs, values, strict=True)))


def _check_names(loss, signals, outputs, knobs, prefix):
    """Refuse signals that the loss does not take, and name those that it lacks."""
    named, takes_any = parameters_of(loss)
    unused = sorted(signals.keys() - named.keys() - REDUCTION)
    if unused and not takes_any:
        rule = f"{prefix}signals must be taken by the loss {_name_of(loss)}"
        raise ValueError(f"{rule}, whose arguments are {sorted(named)}; got {unused} beside")
    required = {name for name, one in named.items() if one.default is one.empty}
    given = signals.keys() | outputs.keys() | knobs.keys()
    if missing := sorted(required - given):
        rule = f"{prefix}signals must hold all that the loss {_name_of(loss)} takes"
        raise ValueError(f"{rule}, {missing} too; got {sorted(given)}")


def _check_mask(inputs, signals, outputs):
    """Refuse a mask that speaks of nothing: an axis too many would count as "any of them"."""
    mask = signals.get("mask")
    others = [inputs, *outputs.values(), *(one for n, one in signals.items() if n != "mask")]
    if mask is not None and all(mask.shape != one.shape[: len(mask.shape)] for one in others):
        rule = "mask must have the leading axes of x or of a signal"
        raise ValueError(f"{rule}, got shape {tuple(mask.shape)} of a batch")


def _own_mask(data, student):
    """Return the mask that a student makes of all inputs, such as of the padding of texts."""
    parts = np.array_split(data.x, math.ceil(len(data.x) / EXAMPLES_TRIED))
    return np.concatenate([mask_of(student(part)) for part in parts])


def _class_count(signals, outputs):
    """Return the number of classes if the labels are classes, else ``None``."""
    logits, labels = outputs.get("student_logits"), signals.get("labels")
    if logits is None or labels is None or len(labels.shape) != len(logits.shape) - 1:
        return None
    return logits.shape[-1] if logits.shape[-1] > 1 else None


def _name_of(loss):
    loss = getattr(loss, "func", loss)  # of a functools.partial
    return getattr(loss, "__name__", type(loss).__name__)
