"""The pure part of kbsync: its values and the rules for selection, settling and planning.

This package imports nothing that can block or access a disk.
"""
