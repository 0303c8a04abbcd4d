"""Addresses of this host: taking and giving up virtual IPs, and telling the neighbours. Knows
nothing of roles.
"""
