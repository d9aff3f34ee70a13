"""Instruments of the calibration model that are trained on their own, after the model.

It may import what ``training`` may import, and ``training`` itself.
"""
