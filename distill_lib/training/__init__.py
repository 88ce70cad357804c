"""Many students trained together, each from its own seed, and handed out as Keras models."""

from distill_lib.training.batches import batch_rows
from distill_lib.training.many import STACKABLE, train_many
from distill_lib.training.stopping import Curve
from distill_lib.training.students import Students

__all__ = ["STACKABLE", "Curve", "Students", "batch_rows", "train_many"]
