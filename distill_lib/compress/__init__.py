"""Parameter distillation: make a small model out of the weights of a large one.

For built Functional or Sequential models. All functions but :func:`inherit_weights` and
:func:`keep_pruned` return a changed, uncompiled copy and leave their model as it is.
"""

from distill_lib.compress.copying import copy_model, quantise_int8
from distill_lib.compress.inheritance import inherit_weights
from distill_lib.compress.low_rank import factorise_low_rank
from distill_lib.compress.pruning import keep_pruned, prune_magnitude, sparsity
