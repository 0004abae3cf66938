"""Servers that take a service's place in tests: they check requests strictly and inject faults on request."""
