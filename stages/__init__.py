"""One thin script per stage: parse, load, call tailnas, save."""

import os

from tailnas.foundation.uncaught import say_in_one_line

# Threads that wait for each other spin for a moment, then sleep. Spinning for long, torch's default, makes a step 20
# times slower where another process shares the cores; not spinning at all makes small networks half as fast. It has to
# be said before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

say_in_one_line()
