"""What the commands that only look have in common: they read folder, state and target and change none."""
