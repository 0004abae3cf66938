"""Servers that stand in for a vendor: strict about what they are sent, able to misbehave on request."""
