"""`telamon lab demo`: PostgreSQL survives the loss of its node, before your eyes."""
