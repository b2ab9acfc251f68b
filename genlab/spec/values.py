"""Values that cannot change: what specifications are made of, their canonical JSON, and their faults in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from genlab.errors import UserError, unknown

__all__ = ["Frozen", "Scalar", "build", "canonical_json"]

Scalar = bool | int | float | str


class Frozen(BaseModel):
    """A value that cannot change and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that came after runs had been kept: at its default such a field is not part of canonical JSON.

    So the default of such a field is what the records before it mean, and never changes. Where new runs are to have
    another value, the field names it as `planned` (`json_schema_extra`), and plans fill it in.
    """

    @classmethod
    def planned(cls) -> dict[str, Scalar]:
        """What a new plan has, where the user is silent, in fields whose default is what old records mean."""
        extras = {name: cast(Mapping[str, Scalar], f.json_schema_extra or {}) for name, f in cls.model_fields.items()}
        return {name: extra["planned"] for name, extra in extras.items() if "planned" in extra}


def canonical_json(spec: BaseModel) -> str:
    """JSON with sorted keys and no spaces: equal specs give equal text, on every machine.

    Fields that came `later` are left out at their defaults, so that the ids of runs kept before them stay.
    """
    return json.dumps(_without_later(spec), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _without_later(spec: BaseModel) -> dict[str, Any]:
    found = spec.model_dump(mode="json")
    for name, value in spec:
        if isinstance(value, BaseModel):
            found[name] = _without_later(value)
        elif isinstance(spec, Frozen) and name in spec.later and value == type(spec).model_fields[name].default:
            del found[name]
    return found


_Spec = TypeVar("_Spec", bound=Frozen)


def build(cls: type[_Spec], values: Mapping[str, Any]) -> _Spec:
    """`cls(**values)`, with every fault in one line.

    Raises:
        UserError: an unknown key (with the nearest name) or a value out of range.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        faults = [_fault(cls, dict(e)) for e in error.errors()]
        raise UserError("; ".join(faults)) from None


def _fault(cls: type[BaseModel], error: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return str(unknown("option", place, cls.model_fields))
    message = str(error["msg"]).removeprefix("Value error, ")
    if not place:
        return message
    if error["type"] == "literal_error":
        choices = [str(choice) for choice in get_args(cls.model_fields[place].annotation)]
        return str(unknown(place, str(error["input"]), choices))
    return f"{place}: {error['input']!r} is not allowed ({message[:1].lower()}{message[1:]})"
