"""A thin typed binding to the distribution's libbpf.so.1: objects, programs, maps, links, pins.

Everything is a descriptor that closes with its owner and lives on where it is pinned. Calls act in
the calling thread's namespaces. Knows eBPF; of Telamon only `capture.py` knows anything.
"""
