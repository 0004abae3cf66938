"""The embedded index: turns bytes into text, passages, vectors and ranked hits. Independent of mirrors and
targets.
"""
