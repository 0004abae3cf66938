"""`kbsync doctor`: its checks, grouped by subject."""
