"""Servers that take a vendor's place in tests: they check requests strictly and inject faults on request."""
