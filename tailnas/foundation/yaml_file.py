"""YAML read safely, with the numbers and booleans that DVC reads."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tailnas.foundation.errors import UserError


class _SafeYaml12(yaml.SafeLoader):
    """Safe YAML whose numbers and booleans read as DVC reads them (YAML 1.2), without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(None, None, f"key {key!r} is not text", key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(None, None, f"key {key!r} stands here twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _resolvers() -> None:
    replaced = {
        "tag:yaml.org,2002:float",
        "tag:yaml.org,2002:bool",
        "tag:yaml.org,2002:int",
        "tag:yaml.org,2002:timestamp",
    }
    _SafeYaml12.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in replaced]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    number = r"[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9]+(?:[eE][-+]?[0-9]+)?"
    _SafeYaml12.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(rf"^(?:{number}|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))$"),
        list("-+0123456789."),
    )
    _SafeYaml12.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
    _SafeYaml12.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))  # 010 is ten
    _SafeYaml12.add_implicit_resolver(
        "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    )


_resolvers()


def read_yaml(path: Path) -> Any:
    """The document in `path`. Raises UserError where it cannot be read or is no YAML."""
    try:
        return _SafeYaml12(path.read_text(encoding="utf-8")).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{path}:{where}: {error.problem}; allowed: YAML as in presets/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; allowed: YAML text in UTF-8") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read ({error}); allowed: a YAML file as in presets/") from None
