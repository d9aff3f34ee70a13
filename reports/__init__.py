"""Tells people what an audit found: HTML report, MLflow, exports.

It may import ``audit``. Inside it, pages and exports read a result through ``index``.
"""
