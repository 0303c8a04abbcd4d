"""What proves, or disproves, that nothing was lost: shared by the demos and the tests.

An oracle knows nothing of how replication or a farm works. tree.py compares what two nodes have on
disk; commits.py and registers.py compare what a client was promised with what is there afterwards;
connections.py keeps connections and tells which broke; handshakes.py listens to who answers.
"""
