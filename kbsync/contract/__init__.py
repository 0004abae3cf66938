"""What a target promises, and what may be asked of it.

Every target is a `target.Target`. What only some can do is a Protocol of its own, asked for
with `isinstance`. Limits are data. A call that concerns several documents gives every one of them its own
outcome, so that one bad document never spoils the others.
"""
