"""What is wrong with params.yaml, in words: the key, the value and what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from tailnas.foundation.errors import plain, short

Node = dict[str, Any]
"""A node of the JSON schema."""


def field_errors(error: ValidationError, schema: Node, document: Any) -> Iterator[str]:
    """One line for each mistake in `document`, which does not fit `schema`."""
    for problem in error.errors(include_url=False):
        if str(problem["loc"][-1]) in ("int", "constrained-int") and isinstance(problem["input"], dict):
            continue  # of a number or a section, it is the section's keys that are wrong
        key, node, parent = _locate(schema, document, problem["loc"])
        value = short(problem["input"])
        if problem["type"] == "missing":
            yield f"{key}: missing; allowed: {_describe(node, schema)}"
        elif problem["type"] == "extra_forbidden":
            known = ", ".join(parent.get("properties", ())) or "no key"
            yield f"{key}: unknown key with value {value}; allowed: {known}"
        elif problem["type"] == "value_error":
            yield f"{key}: {value}; allowed: {problem['msg'].removeprefix('Value error, ')}"
        elif "discriminator" in node and isinstance(problem["input"], dict):
            by = node["discriminator"]["propertyName"]
            found = short(problem["input"][by]) if by in problem["input"] else "missing"
            yield f"{key}.{by}: {found}; allowed: {', '.join(choices(node, schema))}"
        else:
            yield f"{key}: {value}; allowed: {_describe(node, schema)}"


def choices(node: Node, schema: Node) -> dict[str, Node]:
    """The branches of a section that comes in several, by the values of its key that choose them."""
    by = node["discriminator"]["propertyName"]
    found = {}
    for branch in node["oneOf"]:
        branch = resolve(branch, schema)
        chosen = branch["properties"][by]
        for value in chosen.get("enum", [chosen.get("const")]):
            found[str(value)] = branch
    return found


def _locate(schema: Node, document: Any, location: tuple[int | str, ...]) -> tuple[str, Node, Node]:
    """The dotted key of a pydantic error, its JSON schema node and that node's parent.

    pydantic may put the branch that it took in a union into the location; that is no key of the user's.
    """
    key: list[str] = []
    node, parent, value = resolve(schema, schema), schema, document
    for part in location:
        node, taken = _branch(node, schema, value)
        if isinstance(part, str) and part not in node.get("properties", {}) and part == taken:
            continue
        if isinstance(part, int) or "properties" in node:
            key.append(str(part))
            child = node.get("items", {}) if isinstance(part, int) else node["properties"].get(part, {})
            parent, node = node, resolve(child, schema)
            value = value.get(part) if isinstance(value, dict) else None
        elif part == "[key]":  # of a section whose keys are the user's to choose: the key itself is wrong
            node = parent.get("propertyNames", {})
        elif isinstance(node.get("additionalProperties"), dict):
            key.append(str(part))
            parent, node = node, resolve(node["additionalProperties"], schema)
            value = None
    return plain(".".join(key)), node, parent


def _branch(node: Node, schema: Node, value: Any) -> tuple[Node, str | None]:
    """The branch that `value` takes in a node that comes in several, and the value that chooses it."""
    if "anyOf" in node and isinstance(value, dict):
        node = next((found for one in node["anyOf"] if (found := resolve(one, schema)).get("type") == "object"), node)
    if "discriminator" not in node or not isinstance(value, dict):
        return node, node.get("title")
    chosen = value.get(node["discriminator"]["propertyName"])
    found = choices(node, schema)
    return (found[chosen], chosen) if isinstance(chosen, str) and chosen in found else (node, None)


def resolve(node: Node, schema: Node) -> Node:
    """The node that a reference stands for, with what stands beside the reference."""
    while "$ref" in node:
        node = {**schema["$defs"][node["$ref"].rsplit("/", 1)[1]], **{k: v for k, v in node.items() if k != "$ref"}}
    return node


def _describe(node: Node, schema: Node) -> str:
    """What a JSON schema node allows, in words."""
    if "discriminator" in node:
        return f"a section with {node['discriminator']['propertyName']}: {', '.join(choices(node, schema))}"
    if branches := node.get("anyOf", node.get("oneOf", [])):
        return " or ".join(dict.fromkeys(_describe(resolve(branch, schema), schema) for branch in branches))
    if "const" in node:
        return json.dumps(node["const"])
    if "enum" in node:
        return ", ".join(map(str, node["enum"]))
    kind = node.get("type")
    if kind == "object":
        keys = ", ".join(node.get("properties") or node.get("propertyNames", {}).get("enum", ()))
        return f"a section with the keys {keys}" if keys else "an empty section"
    if kind == "array":
        least = node.get("minItems", 0)
        size = least if node.get("maxItems") == least else f"{least} or more"
        unique = " different" if node.get("uniqueItems") else ""
        return f"a list of {size}{unique} entries, each {_describe(resolve(node['items'], schema), schema)}"
    if kind == "null":
        return "null"
    words = {"integer": "an integer", "number": "a finite number", "boolean": "true or false", "string": "text"}
    limits = [
        text.format(node[name])
        for name, text in {
            "minimum": "at least {}",
            "exclusiveMinimum": "above {}",
            "maximum": "at most {}",
            "exclusiveMaximum": "below {}",
            "multipleOf": "a multiple of {}",
            "pattern": "matching {}",
            "minLength": "not empty",
            "maxLength": "at most {} characters",
        }.items()
        if name in node
    ]
    return " ".join([words.get(str(kind), "a value"), *([", ".join(limits)] if limits else [])])
