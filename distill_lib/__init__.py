"""Model distillation on Keras: the methods that the book teaches, small and tested."""
