"""The science of an audit: models, dissection, mitigation, measurement. Knows no cluster, tracker or template.

Imports go one way, from ``results`` and ``generation`` down to ``records``: the contracts in pyproject.toml say it all.
"""
