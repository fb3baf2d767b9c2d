"""How a command ends: 0 good, 1 the user's mistake, 2 a fault of ours, 75 a failure that may pass."""

EXIT_GOOD, EXIT_USER, EXIT_FAULT, EXIT_PASSING = 0, 1, 2, 75


class PassingFailure(Exception):
    """A failure worth a retry: a lock that another process holds, a network."""
