"""Measuring the library: its speed, its tests, and Keras's own distillation."""
