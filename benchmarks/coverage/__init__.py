"""How often every 95 % interval that an audit prints holds the truth.

Run with ``python -m benchmarks.coverage`` (some forty minutes on two cores) or ``--quick`` (two minutes, fewer cells).
It draws images from known group distributions, lets a judge of known accuracy label them, and counts how often the
interval holds the truth. The full study writes ``docs/coverage.md``, ``docs/coverage.svg`` and every cell as
``docs/coverage.csv``; the quick one writes to ``build/coverage`` unless told otherwise.

A module is a family of figures. Each has ``settings``, the cells to study, and ``study``, which turns a cell into
tallies. ``settings.py`` says what the distributions and the judge are; what a family adds stands in its own docstring.
"""
