"""How numbers look: the terminal, Markdown, CSV and HTML all show the digits made here.

A value that is missing or not finite is shown as ``n/a``, never as ``nan``.
"""

from __future__ import annotations

import math

from workloads.catalogue import Value

MISSING = "n/a"


def fixed(value: float | None, decimals: int, *, signed: bool = False) -> str:
    """``value`` with so many decimals; ``signed`` puts a plus before positive values."""
    if value is None or not math.isfinite(value):
        return MISSING
    # Adding zero turns a rounded -0.0 into 0.0.
    rounded = round(value, decimals) + 0.0
    return f"{rounded:+.{decimals}f}" if signed and rounded != 0 else f"{rounded:.{decimals}f}"


def mean_std(mean: float | None, std: float | None, decimals: int) -> str:
    """``mean ± std``, or the mean alone where there is no standard deviation (one value)."""
    if mean is None or not math.isfinite(mean):
        return MISSING
    text = fixed(mean, decimals)
    return text if std is None or not math.isfinite(std) else f"{text} ± {fixed(std, decimals)}"


def p_value(p: float | None) -> str:
    """A p value without its leading zero: three decimals below .1, two above, ``<.001`` below that."""
    if p is None or not math.isfinite(p):
        return MISSING
    if p < 0.001:
        return "<.001"
    text = f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"
    return "1" if text == "1.00" else text.removeprefix("0")


def p_equals(p: float | None) -> str:
    """``= .031`` or ``< .001``, as it stands in a sentence after the letter p."""
    text = p_value(p)
    return f"< {text[1:]}" if text.startswith("<") else f"= {text}"


def parameter(value: Value) -> str:
    """A parameter's value with four significant digits; text and truth values as they are."""
    if isinstance(value, bool | str):
        return str(value)
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def seconds(value: float | None) -> str:
    """A duration: ``8.4 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 seed``, ``5 seeds``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def percent(share: float, decimals: int = 1) -> str:
    """A share as a percentage with its sign: ``52.3 %``; whole numbers lose their decimals."""
    return f"{fixed(100 * share, decimals).removesuffix('.' + '0' * decimals)} %"


def exact(value: float | None) -> str:
    """Every digit, for the full-precision columns of a CSV file; empty where missing."""
    return "" if value is None or not math.isfinite(value) else repr(float(value))
