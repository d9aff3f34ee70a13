"""Sources of pictures without the weights of a model: pictures that exist already, and hosted endpoints.

It may import ``calibration`` and what is below it. It loads no network.
"""
