"""An audit in MLflow: the only package that imports mlflow.

It may import ``reports.export.audit_json`` and ``reports.words``.
"""
