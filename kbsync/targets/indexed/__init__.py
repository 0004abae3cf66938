"""Code shared by targets whose index kbsync fills and searches itself, wherever the index is."""
