"""Manages a service's account and asks it questions. Used only by `kbsync kb`, `kbsync ask` and `kbsync
init`.

A running mirror never loads this package.
"""
