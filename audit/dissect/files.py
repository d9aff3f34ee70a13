"""What a lens directory holds, by name. Nothing here loads a network."""

LENS_FILE = "lens.json"
"""Card, features and strengths; written last, so that a directory with it is a whole lens."""

EXAMPLES = "examples"
"""Folder of the pictures that make a feature fire most."""
