"""Manages a service's account and asks it questions, for `kbsync kb`, `kbsync ask` and `kbsync init` only.

A running mirror never loads this package.
"""
