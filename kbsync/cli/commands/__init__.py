"""The commands, a module each; each is imported when it is run."""
