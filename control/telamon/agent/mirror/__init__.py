"""Mirror modules at work on this node: module.py is one of them, the rest its parts."""
