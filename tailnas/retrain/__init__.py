"""Training the derived network; the losses are the files of tailnas/losses."""
