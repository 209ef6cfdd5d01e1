"""What the models of the settings are made of: their base, types that several fields have, remedies. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sidecar.config import values


class Keys(BaseModel):
    """The base of all models."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        loc_by_alias=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do about a wrong value of the field that this is an annotation of."""

    text: str


def remedy_of(model: type[BaseModel], field: str) -> str:
    """Return what to do about a wrong value of a field of ``model``."""
    return next(extra.text for extra in model.model_fields[field].metadata if isinstance(extra, Remedy))


WholeNumber = Annotated[int, BeforeValidator(values.whole_number)]
Word = Annotated[str, AfterValidator(values.one_word)]
OneLine = Annotated[str, AfterValidator(values.one_line)]
FilePath = OneLine
Lower = BeforeValidator(str.lower)
Duration = Annotated[float, BeforeValidator(values.duration), Field(ge=0, le=86400)]
Command = Annotated[tuple[str, ...], BeforeValidator(values.command)]
