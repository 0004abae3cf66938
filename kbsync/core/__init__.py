"""Pure rules: values, selection, settling and planning.

This package imports nothing that can block or access a disk.
"""
