"""The command `telamon`: talks to the agent of this node, and imports only its API models."""
