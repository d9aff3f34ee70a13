"""Entry point: ``python -m ray_jobs`` runs ``difflens-audit`` with the current interpreter and path."""

from ray_jobs.cli.commands import app

app(prog_name="difflens-audit")
