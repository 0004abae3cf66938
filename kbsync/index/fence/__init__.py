"""Documents are read in a process of its own, which may neither open files nor talk to anyone."""
