"""Benchmarks: ratios against native, measured side by side in one run on one machine.

Both nodes and the client share the processors, so the mirrored side is measured at its worst. No
figure means anything without the native one beside it. How to read them: docs/benchmarks.md.
"""
