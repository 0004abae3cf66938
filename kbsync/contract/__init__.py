"""Defines what a target promises, and what callers may request.

Every target is a `target.Target`. Optional abilities are separate Protocols, checked with `isinstance`.
A target declares its limits. A call about several documents returns a separate outcome for each, so that one
bad document never affects the others.
"""
