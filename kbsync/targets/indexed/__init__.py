"""Shared code of targets whose index kbsync fills and searches itself, wherever the index is."""
