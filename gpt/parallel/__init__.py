"""One model over many processes: a process group, and ZeRO-3 written over its collectives."""
