"""The commands. Each is a module of its own, imported when it runs."""
