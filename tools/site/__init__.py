"""The two sites: their build and Sphinx's extension."""
