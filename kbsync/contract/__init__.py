"""Defines what a target promises, and what callers may request.

Every target is a `target.Target`. Optional abilities are separate Protocols, checked with `isinstance`.
Limits are data. A call about several documents returns a separate outcome for each, so that one bad document
never affects the others.
"""
