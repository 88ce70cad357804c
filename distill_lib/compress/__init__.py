"""Parameter distillation: make a small model out of the weights of a large one.

For built Functional or Sequential models. All functions but :func:`inherit_weights` and
:func:`keep_pruned` return a changed, uncompiled copy and leave their model as it is.
"""

from distill_lib.compress.copying import copy_model
from distill_lib.compress.inheritance import inherit_weights
from distill_lib.compress.low_rank import factorise_low_rank
from distill_lib.compress.pruning import keep_pruned, prune_magnitude, sparsity
from distill_lib.compress.quantisation import quantise_int8

__all__ = ["copy_model", "factorise_low_rank", "inherit_weights", "keep_pruned"]
__all__ += ["prune_magnitude", "quantise_int8", "sparsity"]
