"""The one exception that a user is meant to read, and the sentence that suggests a near name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend. Its message is one line: what was found, what was expected, how to mend it."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which of the known names is meant, and list them: ``"did you mean 'kd'? known: kd, none"``."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    listing = f"known: {', '.join(names) or 'none'}"
    return f"did you mean '{close[0]}'? {listing}" if close else listing
