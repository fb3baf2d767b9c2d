"""The clock: Prefect flows that run `dvc` and `rawgpt` as commands."""
