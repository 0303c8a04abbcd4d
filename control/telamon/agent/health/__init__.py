"""The endpoint that load balancers ask whether this node serves a module."""
