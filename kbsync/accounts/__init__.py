"""Manages accounts at services and puts questions to them.

Only `kbsync kb`, `kbsync ask` and `kbsync init` use this package; a running mirror never loads it.
"""
