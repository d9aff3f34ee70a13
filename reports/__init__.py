"""Tells people what an audit found: HTML report, MLflow, exports."""
