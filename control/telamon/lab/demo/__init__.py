"""`telamon lab demo` and `telamon lab demo-farm`: a mirror and a farm survive the loss of a node,
before your eyes.

story.py, clients.py and verdict.py are the mirror's, farm_story.py and farm_verdict.py the farm's;
timeline.py and summary.py show both.
"""
