"""Reads documents in a separate process, which may neither open files nor use the network."""
