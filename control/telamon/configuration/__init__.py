"""Configuration files: strict YAML with line marks, quantities with units, faults with cures."""
