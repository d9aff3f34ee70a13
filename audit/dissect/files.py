"""What a lens directory holds, by name. Nothing here loads a network."""

LENS_FILE = "lens.json"
"""Card, features and strengths; written last, so that a directory with it is a whole lens."""

CARD_FILE = "card.md"
"""The same for people."""

SHAPE_FILE = "sae.json"
"""The autoencoder's shape."""

EXAMPLES = "examples"
"""Folder of the pictures that make a feature fire most."""

STEERING_FILE = "steering.json"
"""In a run, beside what it keeps of its lens: the strengths of the audit's own prompts, and where they come from."""
