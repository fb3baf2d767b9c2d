"""What a run did, for people: plots, tables, heatmaps, one HTML page."""
