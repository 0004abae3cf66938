"""The state file, and all SQL about mirrors, files and uploads."""
