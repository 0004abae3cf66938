"""What `kbsync doctor` looks at: each check by itself, bounded in time."""
