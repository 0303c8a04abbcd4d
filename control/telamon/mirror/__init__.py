"""The mirror: who of two nodes is primary, and the lineage that proves it."""
