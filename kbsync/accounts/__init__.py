"""Manages a service account and asks the service questions.

Only `kbsync kb`, `kbsync ask` and `kbsync init` use this package; a running mirror never loads it.
"""
