"""The types of knowledge bases that kbsync can mirror into."""
