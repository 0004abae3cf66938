"""The engine: brings what the disk says, what the state knows and what the target holds together."""
