"""What the losses refuse: shapes that do not fit, and numbers outside their range.

Inside a program that is being traced (``fit``, ``tf.function``) values are not known yet. There
a number out of range becomes nan, and so does the loss: it can be noticed, which a wrong finite
number cannot.
"""

from math import inf, nan
from numbers import Real

import numpy as np
from keras import ops

FINITE = "be finite", lambda x: (x > -inf) & (x < inf)
POSITIVE = "be a finite number above 0", lambda x: (x > 0) & (x < inf)
FRACTION = "lie in [0, 1]", lambda x: (x >= 0) & (x <= 1)
INNER_FRACTION = "lie strictly between 0 and 1", lambda x: (x > 0) & (x < 1)

KNOBS = {  # name: (rule in words, rule as a function of a number or a tensor)
    "temperature": POSITIVE,
    "teacher_temperature": POSITIVE,
    "power": POSITIVE,
    "least_variance": POSITIVE,
    "positive_weight": POSITIVE,
    "beta": INNER_FRACTION,
    "skew": INNER_FRACTION,
    "smoothing": FRACTION,
    "soft_weight": FRACTION,
    "target_weight": FINITE,
    "non_target_weight": FINITE,
    "between_weight": FINITE,
    "within_weight": FINITE,
}


def check_knob(name, value):
    """Refuse a value that the losses of this package do not accept for the knob of this name.

    The losses check their knobs themselves. This is for a number that is about to be put into a
    ``keras.Variable``, and for a Variable between two steps of training.

    Args:
        name: the name of the knob, such as ``"temperature"``. A name that no loss of this
            package has may belong to a loss of yours: there a number must only be finite.
        value: a number; or an array, a tensor or a Variable, which is checked where its values
            can be read. Under an unknown name, what is not a number is not looked at.

    Raises:
        ValueError: for a number out of range, and for a bool or a string under a known name.
    """
    rule, accepts = KNOBS.get(name, FINITE)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if is_number or (name in KNOBS and isinstance(value, (bool, str))):
        if not (is_number and accepts(value)):
            raise ValueError(f"{name} must {rule}, got {value}")
    elif name in KNOBS and value is not None:
        in_range(name, ops.cast(ops.convert_to_tensor(value), "float64"))


def knob(name, value, dtype):
    """Return a knob, a number, scalar tensor or Variable, as a scalar tensor."""
    if isinstance(value, (Real, str)):  # directly in `dtype`: float32(0.1) is not float64(0.1)
        check_knob(name, value)
        return ops.convert_to_tensor(float(value), dtype=dtype)
    tensor = ops.cast(ops.convert_to_tensor(value), dtype)
    check_shape(name, tensor, (), "the scalar shape")
    return in_range(name, tensor)


def in_range(name, tensor):
    """Return the tensor of a knob, each entry by the rule of its name."""
    rule, accepts = KNOBS[name]
    return require(name, tensor, accepts(tensor), rule)


def require(name, tensor, valid, rule):
    """Refuse the first value that is not valid; where values are not known, make it nan.

    ``valid`` holds booleans of the tensor's shape, ``rule`` completes "<name> must".
    """
    known = known_values(valid)
    if known is None:
        return ops.where(valid, tensor, nan)
    if not known.all():
        index = tuple(int(i) for i in np.argwhere(~known)[0])
        place = f" at index {index}" if index else ""
        raise ValueError(f"{name} must {rule}, got {known_values(tensor)[index]}{place}")
    return tensor


def known_values(tensor):
    """Return the values as a NumPy array, or None inside a program that is being traced."""
    try:
        return ops.convert_to_numpy(tensor)
    except (NotImplementedError, TypeError, ValueError):
        return None


def check_shape(name, array, expected, rule, advice=""):
    """Refuse a shape other than ``expected`` (``None`` is any size): nothing may broadcast."""
    shape = tuple(array.shape)
    sizes = zip(shape, expected, strict=False)
    if len(shape) != len(expected) or any(None not in (a, b) and a != b for a, b in sizes):
        raise ValueError(
            f"{name} must have {rule} {tuple(expected)}, got shape {shape}{advice}"
        )
