"""The program inside the enclave: standard library and NumPy only; it imports nothing of the rest of gpt."""
