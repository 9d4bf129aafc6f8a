"""Text and numbers for LaTeX: user text as it is, numbers as mathematics."""

from __future__ import annotations

import re
import unicodedata

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "²": r"\textsuperscript{2}",
    "°": r"\textdegree{}",
}
_GREEK = {"ς": "varsigma", "ο": "o", "Ο": "O"}
_NUMBER = re.compile(r"(?<![\w.])([<>]?)([+-]?)((?:\d[\d,]*)?\.?\d+)(?:( ± )([\d.,]+))?(?![\w.])")
_LAST_LATIN = 0x24F
"""Letters up to here are known to every engine."""


def escape(text: str) -> str:
    """User text as it is: nothing in it is a command."""
    return "".join(_escaped(character) for character in " ".join(text.split()))


def _escaped(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    name = unicodedata.name(character, "")
    if not name.startswith("GREEK") or not character.isalpha():
        return character
    if character in _GREEK:
        return f"$\\{_GREEK[character]}$" if len(_GREEK[character]) > 1 else _GREEK[character]
    # GREEK SMALL LETTER TAU; capitals that look like Latin ones have no command.
    letter = name.split()[-1].lower()
    letter = {"lamda": "lambda"}.get(letter, letter)
    if "SMALL LETTER" in name:
        return f"$\\{letter}$" if len(name.split()) == 4 else character
    if letter in ("gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"):
        return f"$\\{letter.capitalize()}$"
    return character


def number(text: str, *, bold: bool = False) -> str:
    """A numeric cell: ``28.7 ± 0.9`` as mathematics, its mean bold; what is no number stays text."""

    def typeset(found: re.Match[str]) -> str:
        relation, sign, digits, _, deviation = found.groups()
        # {,}: a comma between digits is no punctuation.
        value = f"{relation}{sign}{digits.replace(',', '{,}')}"
        value = f"\\mathbf{{{value}}}" if bold else value
        return f"${value}{f' {chr(92)}pm {deviation}' if deviation else ''}$"

    parts, end = [], 0
    for found in _NUMBER.finditer(text):
        parts += [_inside(text[end : found.start()]), typeset(found)]
        end = found.end()
    return "".join([*parts, _inside(text[end:])])


def _inside(text: str) -> str:
    """As :func:`escape`, with the spaces at both ends."""
    core = escape(text)
    return f"{' ' * text.startswith(' ')}{core}{' ' * (text.endswith(' ') and bool(core))}"


def is_plain(character: str) -> bool:
    """Whether pdfLaTeX can set it, as it is or as what :func:`escape` makes of it."""
    return ord(character) <= _LAST_LATIN or _escaped(character) != character
