"""AdamW, Muon, schedules, parameter groups, clipping."""
