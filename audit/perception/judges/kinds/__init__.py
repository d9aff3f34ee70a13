"""One module for each kind of judge: what it can name, what it needs, and how it looks at images.

It may import ``perception.embedders``, the other modules of ``perception.judges`` except the registry and the readers
of confusion matrices, and the same packages as ``perception``. Torch is imported where a judge is loaded, so
that a config can be checked without it.
"""
