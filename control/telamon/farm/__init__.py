"""The farm: one address on every node, one owner for each client."""
