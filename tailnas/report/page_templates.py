"""The page's templates, in the folder `templates`."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tailnas.report.tables import FILTERS

FOLDER = Path(__file__).parent / "templates"


def environment() -> Environment:
    """Everything that is put in is text, and what is not there is an error."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    return made
