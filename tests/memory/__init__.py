"""A knowledge base in memory for tests, which can be slow, lie and fail.

`MemoryBase` is the server. It outlives its clients, so a test may kill a client in the middle of a request
and open another `MemoryTarget` on the same base. Data describes the base's behaviour: `Behaviour` for
permanent properties, `Fault` for single failures.
"""
