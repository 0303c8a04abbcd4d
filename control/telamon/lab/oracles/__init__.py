"""What proves, or disproves, that nothing was lost: shared by the demo and the tests.

An oracle knows nothing of how replication works. tree.py compares what two nodes have on disk;
commits.py and registers.py compare what a client was promised with what is there afterwards.
"""
