"""Logs an audit in MLflow. No other package imports mlflow.

It may import ``reports.export.audit_json`` and ``reports.words``.
"""
