"""Code shared by targets whose index kbsync fills and searches itself: `local` and `postgres`."""
