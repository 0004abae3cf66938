"""Describes each service once for all tests: its client, its possible behaviours and its faults."""
