"""Model distillation on Keras: the methods that the book teaches, small and tested."""

from distill_lib import losses
from distill_lib.activations import without_last_activation
from distill_lib.distiller import Distiller
from distill_lib.evaluate import compare, predict_logits
from distill_lib.features import projector, with_outputs
from distill_lib.teacher import cached_signals, compute_signals
from distill_lib.terms import DistillationTerm
from distill_lib.training import train_many

__all__ = [
    "DistillationTerm",
    "Distiller",
    "cached_signals",
    "compare",
    "compute_signals",
    "losses",
    "predict_logits",
    "projector",
    "train_many",
    "with_outputs",
    "without_last_activation",
]
