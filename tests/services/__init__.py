"""Describes each service once for all tests: how it is reached, its possible behaviours and its faults."""
