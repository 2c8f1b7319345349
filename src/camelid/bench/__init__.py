"""How fast, how lean, and how near to what the machine allows: measurements that anyone can take again.

Everything goes through doors that users have too: the runtime, an engine's port, the server. Results are values
(`result.py`) that become a table, JSON or a picture; every one says which machine, version and command made it.
"""
