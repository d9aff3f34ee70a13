"""``python -m ray_jobs`` is ``difflens-audit``, of the interpreter and the path that run it."""

from ray_jobs.cli.commands import app

app(prog_name="difflens-audit")
