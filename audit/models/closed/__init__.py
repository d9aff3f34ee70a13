"""Sources of pictures whose model nobody can open: pictures that exist already, and hosted endpoints.

It may import ``calibration`` and what is below it. It loads no network.
"""
