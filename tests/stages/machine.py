"""The section `machine` of a stage's test: one thread, one rank."""

MACHINE = {
    "device": "cpu",
    "threads": 1,
    "parallel": {"engine": "zero3", "ranks": 1, "timeout_s": 60.0, "experts": "gathered"},
}
