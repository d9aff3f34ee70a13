"""The calibration model: a small text-to-image pipeline with planted, known bias."""
