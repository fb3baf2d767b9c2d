"""The machine: a GPT from raw tensors. Knows no dvc, no prefect, no mlflow."""
