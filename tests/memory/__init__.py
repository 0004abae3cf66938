"""A knowledge base in memory for tests, which can be slow, lie and fail.

`MemoryBase` is the server side. It outlives its clients, so a test may let a client die in the middle of
a request and open another `MemoryTarget` on the same base. How the base behaves is data: `Behaviour` for
what it always does, `Fault` for what goes wrong once or a few times.
"""
