"""How fast the search is, the plain implementation that it is held against, and experiments on the methods."""

import os

# As the stages have it, for both sides: threads that wait for each other spin for a moment, then sleep.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# The profiler's own log, which would stand among the tables.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
