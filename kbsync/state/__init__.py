"""The state file: all SQL about mirrors, files and uploads lives here."""
