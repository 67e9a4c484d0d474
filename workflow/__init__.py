"""What Snakemake needs to know of the pipeline that DVC describes."""

from tailnas.foundation.uncaught import say_in_one_line

say_in_one_line()
