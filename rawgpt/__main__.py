"""`python -m rawgpt`: the command without an installed script."""

from rawgpt.main import app

app()
