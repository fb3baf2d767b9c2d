"""One function over many independent parts: in this process, on this machine's cores."""
