"""Quantisation: kernels as small integers."""

from keras.layers import Dense, EinsumDense, Embedding

from distill_lib.compress.copying import copy_model


def quantise_int8(model):
    """Return a copy whose kernels are 8-bit integers, with one scale for each output.

    This is Keras's own ``quantize("int8")``. Keras 3.15 does so for Dense, EinsumDense (also
    those inside attention) and Embedding, and quantises the inputs of a Dense layer on the
    fly; all other layers keep their floats. A Dense layer's file shrinks to about a quarter;
    a CPU is not faster, and the quantised kernels cannot be trained.

    Raises:
        ValueError: if the model has none of these layers.
    """
    copy, able = copy_model(model), (Dense, EinsumDense, Embedding)
    # The filter avoids Keras's warning for each layer, or subclass, that it cannot quantise.
    copy.quantize("int8", filters=lambda layer: type(layer) in able)
    if all(weight.dtype != "int8" for weight in copy.weights):
        found = [layer.__class__.__name__ for layer in model.layers]
        raise ValueError(f"model must have a Dense, EinsumDense or Embedding, got {found}")
    return copy
