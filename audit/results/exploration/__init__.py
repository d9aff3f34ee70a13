"""What directions of prompts show: scores with intervals, similarities, clusters, and how well scores predict images.

It may import ``analyses`` and ``records``.
"""
