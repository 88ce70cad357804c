"""One student trained inside Keras's ``fit``, on labels and on a teacher."""

from distill_lib.distiller.model import Distiller

__all__ = ["Distiller"]
