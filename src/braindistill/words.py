"""Command-line words: what Hydra's grammar makes of one, and how to write one that it reads back."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from braindistill.errors import UserError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


@functools.cache
def parse(word: str) -> Override:
    """A word as an override.

    Raises
    ------
    UserError
        It is none.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if "=" not in word and not word.startswith("~"):
        raise UserError(
            f"{word!r} is not an override; expected group=option or key=value, e.g. teacher=brain or seed=3"
        )
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{word!r} can't be parsed ({reason}); put odd characters in quotes: 'key=\"value\"'"
        ) from error


def key_of(word: str) -> str:
    """The key or group that an override is about."""
    return str(parse(quote_arm(word)).key_or_group)


def plain_words(words: Iterable[str]) -> list[str]:
    """The words as a person would type them."""
    return [word.removeprefix("++") for word in words]


def override(key: str, value: str | float | list[str] | None) -> str:
    """``key=value`` as Hydra reads it back: a word that could be taken for something else is put in quotes."""
    if isinstance(value, list):
        return f"{key}=[{','.join(override('', item)[1:] for item in value)}]"
    if value is None or isinstance(value, bool):
        return f"{key}={json.dumps(value)}"
    plain = re.fullmatch(r"-?[A-Za-z_][\w.-]*", value) if isinstance(value, str) else True
    if plain and str(value).lower() not in ("null", "true", "false", "nan", "inf", "-inf", "-nan"):
        return f"{key}={value}"
    # Hydra takes a backslash for itself unless a quote follows
    escaped = re.sub(r"\\+(?='|$)", lambda found: 2 * found[0], str(value)).replace("'", "\\'")
    return f"{key}='{escaped}'"


def quote_arm(word: str) -> str:
    """``+eval.definitions.NAME=[teacher=cnn,seed=1]``: Hydra's grammar wants each of the overrides in quotes.

    So do those of ``method.terms.NAME``.
    """
    match = re.fullmatch(r"(\+{0,2}(?:eval\.definitions|method\.terms)\.[^=]+)=\[([^'\"]*)\]", word)
    if not match:
        return word
    overrides = re.split(r",(?![^\[]*\])", match[2])
    quoted = ",".join(f"'{override.strip()}'" for override in overrides if override.strip())
    return f"{match[1]}=[{quoted}]"
