"""The agent's side of the control socket: typed commands, typed status, typed events. See
replicator/CONTROL.md.
"""
