"""The buttons: one file is one DVC stage is one section of params.yaml."""
