"""The state file, with all SQL about mirrors, files and uploads."""
