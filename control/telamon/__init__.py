"""Telamon: high availability for Linux. ARCHITECTURE.md says what lives where."""
