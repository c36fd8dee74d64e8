"""Small objects as JSON: the class's name and the fields, and nothing that can run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


def encode(value: Any, name: str) -> Any:
    """Return what JSON can hold for a word, a number, None or one of the library's records.

    Raises
    ------
    ValueError
        `value` is code of the user's own, such as a function; `name` says where it stands.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value
    own = type(value).__module__.startswith("fastmlp.")
    if not own or not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise ValueError(
            f"{name} can't be saved: {value!r} is code of your own, and files hold no code"
        )
    fields = {f.name: encode(getattr(value, f.name), name) for f in dataclasses.fields(value)}
    return {"class": type(value).__name__, **fields}


def decode(record: Any, classes: Mapping[str, type], name: str) -> Any:
    """Return the word, number or record that `encode` was given; only `classes` are built.

    Raises
    ------
    TypeError, ValueError
        Anything else.
    """
    if record is None or isinstance(record, str | bool | int | float):
        return record
    if not isinstance(record, dict) or not isinstance(record.get("class"), str):
        raise ValueError(f"{name} must be a word, a number or a record; got {str(record)[:80]}")
    kind = classes.get(record["class"])
    if kind is None:
        raise ValueError(f"{name} names the class {record['class'][:60]!r}, which is unknown")
    fields = {key: decode(value, classes, name) for key, value in record.items() if key != "class"}
    known = {field.name for field in dataclasses.fields(kind)}
    if not fields.keys() <= known:
        extra = ", ".join(sorted(fields.keys() - known))[:80]
        raise ValueError(f"{name} has unknown numbers for {record['class']}: {extra}")
    return kind(**fields)
