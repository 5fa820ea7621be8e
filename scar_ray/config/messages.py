"""Turns what pydantic found wrong into one line each: dotted key, rule, value got, nearest valid name."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from scar_ray.config.schema import Config
from scar_ray.config.section import Section

_TYPE_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
_COMBINATION = "value_error"
"""pydantic's name for the error of a model validator: a combination of keys, not one key."""


def violation_lines(error: ValidationError, *, combinations: bool = True) -> list[str]:
    """One line for each violation; without `combinations` only those that one key alone explains."""
    return [
        line
        for detail in error.errors()
        if combinations or detail["type"] != _COMBINATION
        for line in _violation(detail["type"], detail["loc"], detail["input"], detail.get("ctx", {})).splitlines()
    ]


def unknown_key(dotted: str) -> str:
    """The line for a key that the schema does not have, with the nearest one that it has.

    Example: `unknown key credit.alhpa; did you mean credit.alpha?`.
    """
    parts = dotted.split(".")
    section: type[Section] = Config
    for depth, part in enumerate(parts):
        field = section.model_fields.get(part)
        if field is None:
            return f"unknown key {dotted}; {_suggestion(section, parts, depth)}"
        inner = section_of(field.annotation)
        if inner is None:
            key = ".".join(parts[: depth + 1])
            return f"unknown key {dotted}; {key} is a single value, write {key}=VALUE"
        section = inner
    raise AssertionError(f"{dotted} is a key")


def is_key(dotted: str) -> bool:
    """Whether the schema has a leaf or a section of this name."""
    section: type[Section] | None = Config
    for part in dotted.split("."):
        if section is None or part not in section.model_fields:
            return False
        annotation = section.model_fields[part].annotation
        if get_origin(annotation) is dict:
            return True  # free options, whatever their names
        section = section_of(annotation)
    return True


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field holds, also where it may be null; None for a leaf."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def choice_line(key: str, choices: Iterable[Any], got: Any) -> str:
    """The line for a value that is none of `choices`, with the nearest one.

    Example: `credit.unit: must be one of token, span, sentence, got "sentance"; did you mean sentence?`.
    """
    names = [str(choice) for choice in choices]
    near = get_close_matches(str(got), names, n=1)
    return f"{key}: must be one of {', '.join(names)}, got {shown(got)}" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def shown(value: Any) -> str:
    """A value as the user would write it, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _violation(kind: str, loc: Sequence[int | str], got: Any, context: Mapping[str, Any]) -> str:
    key = ".".join(part for part in loc if isinstance(part, str))  # positions in a list are left out
    if kind == _COMBINATION:
        # The validators' messages begin with a key relative to their section.
        return f"{key}.{context['error']}" if key else str(context["error"])
    if kind == "extra_forbidden":
        return unknown_key(key)
    field = _field(loc)
    inner = section_of(field.annotation)
    if inner is not None:
        example = next(iter(inner.model_fields))
        return f"{key}: is a section, got {shown(got)}; set its keys, such as {key}.{example}"
    annotation, bounds = _unwrapped(field.annotation, field.metadata)
    if get_origin(annotation) is Literal:
        return choice_line(key, get_args(annotation), got)
    line = f"{key}: must be {_rule(annotation, bounds, nullable=_nullable(field.annotation))}, got {shown(got)}"
    if annotation is str and isinstance(got, int | float):
        line += f"; quote it: {key}='\"{shown(got)}\"'"
    return line


def _field(loc: Sequence[int | str]) -> FieldInfo:
    section: type[Section] = Config
    for part in loc:
        field = section.model_fields[str(part)]
        inner = section_of(field.annotation)
        if inner is None:
            break
        section = inner
    return field


def _nullable(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _unwrapped(annotation: Any, metadata: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The bare type of a leaf, and its bounds wherever in the annotation they stand."""
    bounds = list(metadata)
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        for item in extra:
            bounds += item.metadata if isinstance(item, FieldInfo) else [item]
    return annotation, bounds


def _rule(annotation: Any, bounds: Sequence[Any], *, nullable: bool) -> str:
    names = {tuple: "a list of text", dict: "options by name, such as {threshold: 0.5}"}
    rule = names.get(get_origin(annotation)) or _TYPE_NAMES[annotation]
    limits = {
        name: getattr(bound, name) for bound in bounds for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)
    }
    if "ge" in limits and "le" in limits:
        rule += f" from {limits['ge']:g} to {limits['le']:g}"
    else:
        words = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
        parts = [f"{words[name]} {limits[name]:g}" for name in words if name in limits]
        rule += " " + " and ".join(parts) if parts else ""
    return rule + (" or null" if nullable else "")


def _suggestion(section: type[Section], parts: Sequence[str], depth: int) -> str:
    prefix, tail = parts[:depth], parts[depth:]
    near = get_close_matches(tail[0], section.model_fields, n=1)
    if near:
        whole = ".".join([*prefix, near[0], *tail[1:]])
        return f"did you mean {whole if is_key(whole) else '.'.join([*prefix, near[0]])}?"
    keys = list(_keys(Config))
    same_tail = [key for key in keys if key.endswith("." + ".".join(tail))]
    names = [key.rpartition(".")[2] for key in keys]
    best = get_close_matches(tail[-1], names, n=1, cutoff=0.75)
    same_name = [key for key, name in zip(keys, names, strict=True) if name in best]
    found = (same_tail or same_name)[:4]
    if found:
        return f"did you mean {' or '.join(found)}?"
    where = ".".join(prefix)
    return f"the keys {'of ' + where if where else 'here'} are {', '.join(section.model_fields)}"


def _keys(section: type[Section], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        inner = section_of(field.annotation)
        if inner is not None:
            yield from _keys(inner, f"{prefix}{name}.")
