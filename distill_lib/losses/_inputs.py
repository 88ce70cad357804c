"""What every loss does with its arguments before the formula: precision and shapes."""

import keras
from keras import ops


def as_floats(*arrays):
    """Return the arrays as tensors of one floating type, float32 at the least.

    Half precision is cast up: in float16 the logit 300 squared is already infinite.
    """
    tensors = [ops.convert_to_tensor(array) for array in arrays]
    dtype = keras.backend.result_type(*(tensor.dtype for tensor in tensors), "float32")
    return [ops.cast(tensor, dtype) for tensor in tensors]


def check_shape(name, array, expected, rule):
    """Raise ``ValueError`` unless the shape equals ``expected``; ``None`` fits any size.

    Nothing may be broadcast by accident: ``(n, 1)`` against ``(n,)`` would silently give
    an ``(n, n)`` table of losses.
    """
    shape = tuple(array.shape)
    fits = len(shape) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(shape, expected, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must have {rule} {tuple(expected)}, got shape {shape}")
