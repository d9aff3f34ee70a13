"""Config sections of the interventions: one for each method; ``registry`` joins them to one key of a config.

It may import ``audit.config.fields`` and what is below it.
"""
