"""Managing an account at a service, and asking it: for `kbsync kb`, `kbsync ask` and `kbsync init` alone.

A mirror never loads it.
"""
