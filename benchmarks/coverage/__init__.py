"""Coverage study: how often each 95 % interval of an audit contains the true value.

Run with ``python -m benchmarks.coverage`` (some forty minutes on two cores) or ``--quick`` (two minutes, fewer cells).
It draws images from known group distributions, labels them by a judge of known accuracy, and counts how often the
interval contains the true value. The full study writes ``docs/coverage.md``, ``docs/coverage.svg`` and every cell as
``docs/coverage.csv``; the quick one writes to ``build/coverage`` by default.

Each module is a family of figures with ``settings``, the cells to study, and ``study``, which turns a cell into
tallies. ``settings.py`` defines the distributions and the judge; each family documents its additions.
"""
