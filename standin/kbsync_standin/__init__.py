"""Servers that simulate services in tests: they check requests strictly and inject faults on request."""
