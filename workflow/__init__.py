"""What Snakemake needs to know of the pipeline that DVC describes."""
