"""Presents the result of an audit to people and programs: HTML report, MLflow, exports.

It may import ``audit``. Inside it, pages and exports read a result through ``index``.
"""
