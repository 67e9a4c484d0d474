"""A DVC pipeline run by anything that can schedule: DVC loaded once, warm workers, stages recorded as `dvc repro` does.

`interior` is the only file that knows what DVC looks like inside. `lockfile` writes dvc.lock, `plan` tells stages in
the words of a scheduler, `worker` and `command` run a stage's command, `keeper` and `client` share one loaded DVC
between processes, `schedule` runs a pipeline without any other engine.
"""
