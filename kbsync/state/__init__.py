"""The state file: all SQL about mirrors, files and uploads is in here."""
