"""What :func:`~distill_lib.training.train_many` is given, checked by name before it begins."""

import math
from numbers import Integral

import numpy as np

from distill_lib.mean_loss import REDUCTION, parameters_of, student_signals, wanted
from distill_lib.training.batches import per_seed
from distill_lib.training.row_checks import check_rows
from distill_lib.training.stacked import mask_of, objective

EXAMPLES_TRIED = 128


def as_seeds(seeds):
    """A list of Python integers from 0."""
    if isinstance(seeds, Integral) or not hasattr(seeds, "__iter__"):
        raise ValueError(f"seeds must be a sequence of integers such as range(3), got {seeds}")
    seeds = list(seeds)
    check_counts({"len(seeds)": len(seeds)})
    for seed in seeds:
        if not isinstance(seed, Integral) or seed < 0:
            raise ValueError(f"seeds must be integers from 0, got {seed!r}")
    return [int(seed) for seed in seeds]


def check_counts(counts):
    """Refuse what is not a whole number of at least 1; ``counts`` by name."""
    for name, value in counts.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value}")


def as_knobs(loss, knobs, seeds):
    """For each number that the loss takes a list of one for each seed."""
    named, takes_any = parameters_of(loss)
    unknown = sorted(knobs.keys() - named.keys())
    if unknown and not takes_any:
        rule = "must be options of train_many or arguments of its loss"
        raise ValueError(f"keywords {rule} {_name_of(loss)}, got {unknown}")
    many = (list, tuple, np.ndarray)
    return {
        name: [_as_number(name, one) for one in per_seed(name, value, seeds, many)]
        for name, value in knobs.items()
    }


def check_data(data, loss, student, knobs, subsets=None):
    """Refuse signals and numbers that do not fit the loss, before anything is compiled.

    The loss is tried with every set of knobs on the first examples, so that it may refuse
    them by name, which a compiled step does not.
    """
    inputs, signals = data.batch(0, np.arange(min(len(data.x), EXAMPLES_TRIED)))
    answers = student(inputs)
    outputs = student_signals(answers)
    knobs = wanted(loss, knobs)
    _check_names(loss, data.each, outputs, knobs, data.prefix)
    _check_mask(inputs, signals, outputs)
    subsets = [np.arange(len(data.x))] if subsets is None else subsets
    mask, class_count = _own_mask(data, student, answers), _class_count(signals, outputs)
    check_rows(data, subsets, mask, class_count)
    for values in set(zip(*knobs.values(), strict=True)) if knobs else [()]:
        objective(loss, signals, answers, dict(zip(knobs, values, strict=True)))


def _check_mask(inputs, signals, outputs):
    """Refuse a mask that speaks of nothing: an axis too many would count as "any of them"."""
    mask = signals.get("mask")
    others = [inputs, *outputs.values(), *(one for n, one in signals.items() if n != "mask")]
    if mask is not None and all(mask.shape != one.shape[: len(mask.shape)] for one in others):
        rule = "mask must have the leading axes of x or of a signal"
        raise ValueError(f"{rule}, got shape {tuple(mask.shape)} of a batch")


def _own_mask(data, student, answers):
    """The mask that a student makes of all inputs, as of the padding of texts, or ``None``."""
    if mask_of(answers) is None:
        return None
    rows = np.arange(len(data.x))
    parts = np.array_split(rows, -(-len(rows) // EXAMPLES_TRIED))
    return np.concatenate([mask_of(student(data.batch(0, part)[0])) for part in parts])


def _class_count(signals, outputs):
    """The number of classes where the labels are such, else ``None``."""
    logits, labels = outputs.get("student_logits"), signals.get("labels")
    if logits is None or labels is None or logits.shape[-1] < 2:
        return None
    return logits.shape[-1] if len(labels.shape) == len(logits.shape) - 1 else None


def _check_names(loss, signals, outputs, knobs, prefix):
    """Refuse signals that the loss does not take, and name those that it lacks."""
    named, takes_any = parameters_of(loss)
    unused = sorted(signals.keys() - named.keys() - REDUCTION)
    if unused and not takes_any:
        rule = f"{prefix}signals must be taken by the loss {_name_of(loss)}"
        raise ValueError(f"{rule}, whose arguments are {sorted(named)}; got {unused} beside")
    required = {name for name, one in named.items() if one.default is one.empty}
    if missing := sorted(required - signals.keys() - outputs.keys() - knobs.keys()):
        given = sorted(signals.keys() | outputs.keys() | knobs.keys())
        rule = f"{prefix}signals must hold all that the loss {_name_of(loss)} takes"
        raise ValueError(f"{rule}, {missing} too; got {given}")


def _name_of(loss):
    loss = getattr(loss, "func", loss)  # of a functools.partial
    return getattr(loss, "__name__", type(loss).__name__)


def _as_number(name, value):
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"{name} must be a finite number (or one for each seed), got {value!r}"
        )
    return number
