"""Manages accounts with services, and asks the services questions.

Only `kbsync kb`, `kbsync ask` and `kbsync init` use this package; a running mirror never loads it.
"""
