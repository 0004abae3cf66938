"""What targets share whose index kbsync fills and searches by itself, wherever the index is kept."""
