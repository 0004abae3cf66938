"""The engine, which reconciles the disk, the state and the target."""
