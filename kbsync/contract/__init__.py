"""Defines the promises of a target and the requests of its callers.

Every target is a `target.Target`. Optional abilities are separate Protocols, checked with `isinstance`. A
target declares its limits. A call for several documents returns a separate outcome for each, so that one bad
document never affects the others.
"""
