"""The cluster: its configuration, credentials, heartbeats, and who is heard."""
