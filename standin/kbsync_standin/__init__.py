"""Servers that replace a vendor's in tests: they check requests strictly, and cause faults on request."""
