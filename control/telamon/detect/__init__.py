"""Detectors: what a module's checks look at, how they judge it, and when they ask for an action.

`check` is the pure core, `watch` drives it, and each other file is one kind of detector. What an
action does is the business of the module's own machine.
"""
