"""The pages: what a notebook and its Chinese page hold, and how they are woven together."""
