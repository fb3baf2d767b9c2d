"""The enclave image: EIF file, root file system, init, and the guest that runs without torch."""
