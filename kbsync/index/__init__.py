"""The embedded index: turns bytes into text, passages, vectors and ranked hits. It is independent of mirrors
and targets.
"""
