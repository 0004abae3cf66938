"""Manages a service's account and sends it questions, only for `kbsync kb`, `kbsync ask` and `kbsync init`.

A running mirror never loads this package.
"""
