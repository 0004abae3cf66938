"""The engine: reconciles the disk, the state and the target."""
