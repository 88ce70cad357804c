"""The machinery of the book, a folder for each job; run as `python -m tools.FOLDER.NAME`."""
