"""`printf`: Go's formats, with flags, widths, precisions and argument indexes.

What is wrong with a format or an argument is written into the result, as Go does: `%!d(string=x)`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .budget import Budget
from .floats import shortest
from .marking import Marked
from .printing import text_of
from .values import Record, TypeNames, Value, encoded, is_list, prints_json, type_name

MAX_WIDTH = 1_000_000  # Go's own; more is no width

_VERB = re.compile(
    r"%(?P<flags>[-+# 0]*)(?P<index>\[[^\]%]*\])?(?:(?P<width>[0-9]+)|(?P<star>\*))?"
    r"(?:(?P<point>\.)(?P<index2>\[[^\]%]*\])?(?:(?P<precision>[0-9]+)|(?P<star2>\*))?)?(?P<index3>\[[^\]%]*\])?"
    r"(?P<verb>.|\n)?",
    re.DOTALL,
)
_TEXT_VERBS, _FLOAT_VERBS = "svqxX", "veEfFgG"
_BASES = {"d": 10, "b": 2, "o": 8, "O": 8, "x": 16, "X": 16, "v": 10}


@dataclass(frozen=True)
class Spec:
    """One verb with all that stands before it."""

    verb: str
    flags: str = ""
    width: int | None = None
    precision: int | None = None


class Formatter:
    """Formats for one prompt: its marks, and its budget, which wide paddings spend."""

    def __init__(self, marked: Marked, budget: Budget) -> None:
        self._marked = marked
        self._budget = budget

    def sprintf(self, form: str, values: Sequence[Value]) -> str:
        """Return the values as the format says."""
        return _Run(self, form, values).result()

    def written(self, spec: Spec, value: Value, *, is_inner: bool = False) -> str:
        """Return one value as one verb writes it. is_inner: it is part of a list or a map."""
        self._budget.step()
        if spec.verb == "T":
            return self._padded(replace(spec, precision=None), "<nil>" if value is None else type_name(value))
        if value is None:
            return self._nothing(spec, is_inner)
        if spec.verb == "v" and "#" in spec.flags:
            return self._padded(spec, _in_syntax(value, self._marked))
        if spec.verb == "v" and "+" in spec.flags and not isinstance(value, Record):
            spec = replace(spec, flags=spec.flags.replace("+", ""))
        return self._by_kind(spec, value)

    def _by_kind(self, spec: Spec, value: Value) -> str:
        if self._prints_itself(spec, value):
            return self._string(spec, text_of(value, self._marked))
        if isinstance(value, bool):
            return self._padded(spec, "true" if value else "false") if spec.verb in "tv" else self._bad(spec, value)
        if isinstance(value, str):
            return self._string(spec, value) if spec.verb in _TEXT_VERBS else self._bad(spec, value)
        if isinstance(value, int):
            return self._integer(spec, value)
        if isinstance(value, float):
            return self._float(spec, value) if spec.verb in _FLOAT_VERBS else self._bad(spec, value)
        return self._marked.seal(self._composite(spec, value))

    def _nothing(self, spec: Spec, is_inner: bool) -> str:
        if is_inner:
            return "<nil>"
        if spec.verb == "v":
            return self._padded(replace(spec, flags=spec.flags.replace("0", "")), "<nil>")
        return f"%!{spec.verb}(<nil>)"

    def _prints_itself(self, spec: Spec, value: Value) -> bool:
        knows_text = prints_json(value) or (isinstance(value, TypeNames) and len(value) < 2)
        return knows_text and spec.verb in _TEXT_VERBS

    def _composite(self, spec: Spec, value: Value) -> str:
        each: Callable[[Value], str] = lambda item: self.written(spec, item, is_inner=True)  # noqa: E731
        if isinstance(value, dict):
            return f"map[{' '.join(f'{each(key)}:{each(item)}' for key, item in sorted(value.items()))}]"
        if is_list(value):
            return f"[{' '.join(map(each, value))}]"
        assert isinstance(value, Record), "every value of a template is one of these"
        named = "+" in spec.flags and spec.verb == "v"
        return f"{{{' '.join((f'{name}:' if named else '') + each(item) for name, item in value.fields.items())}}}"

    def _string(self, spec: Spec, text: str) -> str:
        self._budget.make(len(text))
        if spec.verb in "sv":
            return self._padded(spec, text if spec.precision is None else text[: spec.precision])
        if spec.verb in "xX":
            return self._padded(spec, self._hexadecimal(spec, text))
        cut = text if spec.precision is None else text[: spec.precision]
        raw = "#" in spec.flags and spec.verb == "q"
        return self._padded(spec, self._marked.change(cut, lambda plain: _quoted(plain, raw, "+" in spec.flags)))

    def _hexadecimal(self, spec: Spec, text: str) -> str:
        content = encoded(self._marked.plain(text))
        content = content if spec.precision is None else content[: spec.precision]
        digits = content.hex(" ") if " " in spec.flags else content.hex()
        prefix = "0x" if "#" in spec.flags and digits else ""
        if prefix and " " in spec.flags:
            digits = digits.replace(" ", " 0x")
        return (prefix + digits).upper() if spec.verb == "X" else prefix + digits

    def _integer(self, spec: Spec, value: int) -> str:
        verb = spec.verb
        if verb in _BASES:
            return self._digits(spec, value)
        if verb == "c":
            return self._padded(spec, self._marked.seal(_character(value)))
        if verb == "q":
            return self._padded(spec, self._marked.seal(_quoted_character(_character(value))))
        if verb == "U":
            named = f" '{chr(value)}'" if "#" in spec.flags and 32 <= value <= 0x10FFFF else ""
            return self._padded(replace(spec, flags=spec.flags.replace("0", "")), f"U+{value:04X}{named}")
        return self._bad(spec, value)

    def _digits(self, spec: Spec, value: int) -> str:
        digits = _in_base(abs(value), _BASES[spec.verb])
        if spec.precision is not None:
            self._budget.make(spec.precision)
            digits = "" if spec.precision == 0 and value == 0 else digits.rjust(spec.precision, "0")
        sign = "-" if value < 0 else "+" if "+" in spec.flags else " " if " " in spec.flags else ""
        prefix = _prefix(spec, digits)
        if spec.verb == "X":
            digits = digits.upper()
        if spec.precision is None and "0" in spec.flags and "-" not in spec.flags and spec.width:
            self._budget.make(spec.width)
            digits = digits.rjust(spec.width - len(sign), "0")
        return self._padded(replace(spec, flags=spec.flags.replace("0", "")), sign + prefix + digits)

    def _float(self, spec: Spec, value: float) -> str:
        text = _float_text(spec, abs(value)) if math.isfinite(value) else shortest(abs(value)).lstrip("+")
        self._budget.make(len(text))
        is_negative = math.copysign(1, value) < 0 and not math.isnan(value)
        always = "+" in spec.flags or (math.isinf(value) and " " not in spec.flags)
        sign = "-" if is_negative else "+" if always else " " if " " in spec.flags else ""
        if "0" in spec.flags and "-" not in spec.flags and spec.width and math.isfinite(value):
            self._budget.make(spec.width)
            text = text.rjust(spec.width - len(sign), "0")
        return self._padded(replace(spec, flags=spec.flags.replace("0", "")), sign + text)

    def _bad(self, spec: Spec, value: Value) -> str:
        return f"%!{spec.verb}({type_name(value)}={self._by_kind(replace(spec, verb='v'), value)})"

    def _padded(self, spec: Spec, text: str) -> str:
        missing = (spec.width or 0) - len(text)
        if missing <= 0:
            return text
        self._budget.make(spec.width or 0)
        if "-" in spec.flags:
            return text + " " * missing
        return ("0" if "0" in spec.flags else " ") * missing + text


class _Run:
    """One format with its arguments: which of them is next, and whether all were used."""

    def __init__(self, formatter: Formatter, form: str, values: Sequence[Value]) -> None:
        self._formatter = formatter
        self._form = form
        self._values = values
        self._next = 0
        self._is_reordered = False

    def result(self) -> str:
        pieces: list[str] = []
        at = 0
        for found in _VERB.finditer(self._form):
            pieces += [self._form[at : found.start()], self._one(found)]
            at = found.end()
        pieces.append(self._form[at:])
        if not self._is_reordered and self._next < len(self._values):
            extra = ", ".join(map(self._described, self._values[self._next :]))
            pieces.append(f"%!(EXTRA {extra})")
        return "".join(pieces)

    def _one(self, found: re.Match[str]) -> str:
        flags, verb = found["flags"], found["verb"]
        bad_index = not self._seek(found["index"])
        width, bad_width = self._size(found["width"], found["star"])
        if width is not None and width < 0:
            flags, width = flags + "-", -width
        bad_index |= not self._seek(found["index2"])
        precision, bad_precision = self._size(found["precision"], found["star2"])
        if found["point"] and precision is None and not found["star2"]:
            precision = 0
        if precision is not None and precision < 0:
            precision, bad_precision = None, True
        bad_index |= not self._seek(found["index3"])
        noise = "%!(BADWIDTH)" * bad_width + "%!(BADPREC)" * bad_precision
        if verb is None:
            return noise + "%!(NOVERB)"
        if verb == "%":
            return noise + "%"
        if bad_index:
            return f"{noise}%!{verb}(BADINDEX)"
        if self._next >= len(self._values):
            return f"{noise}%!{verb}(MISSING)"
        self._next += 1
        return noise + self._formatter.written(Spec(verb, flags, width, precision), self._values[self._next - 1])

    def _seek(self, index: str | None) -> bool:
        """Go to the argument that `[n]` names. Returns False where there is none."""
        if index is None:
            return True
        self._is_reordered = True
        inner = index[1:-1]
        if not inner.isascii() or not inner.isdigit() or not 0 < int(inner[:9]) <= len(self._values):
            return False
        self._next = int(inner[:9]) - 1
        return True

    def _size(self, digits: str | None, star: str | None) -> tuple[int | None, bool]:
        """Return a width or precision, and whether an argument that was to be one is none."""
        if digits is not None:
            value = int(digits[:9])
            return (value, False) if value <= MAX_WIDTH else (None, True)
        if star is None:
            return None, False
        given = self._values[self._next] if self._next < len(self._values) else None
        self._next += self._next < len(self._values)
        if not isinstance(given, int) or isinstance(given, bool) or abs(given) > MAX_WIDTH:
            return None, True
        return given, False

    def _described(self, value: Value) -> str:
        if value is None:
            return "<nil>"
        return f"{type_name(value)}={self._formatter.written(Spec('v'), value)}"


def _in_syntax(value: Value, marked: Marked) -> str:
    """Return a value as a Go program would write it."""
    if value is None:
        return "interface {}(nil)"
    if isinstance(value, str):
        return marked.change(value, lambda plain: _quoted(plain, False, False))
    if isinstance(value, dict):
        inner = ", ".join(
            f"{_in_syntax(key, marked)}:{_in_syntax(item, marked)}" for key, item in sorted(value.items())
        )
        return marked.seal(f"{type_name(value)}{{{inner}}}")
    if is_list(value):
        return marked.seal(f"{type_name(value)}{{{', '.join(_in_syntax(item, marked) for item in value)}}}")
    if isinstance(value, Record):
        inner = ", ".join(f"{name}:{_in_syntax(item, marked)}" for name, item in value.fields.items())
        return marked.seal(f"{value.type_name}{{{inner}}}")
    return text_of(value, marked)


def _in_base(value: int, base: int) -> str:
    return {2: f"{value:b}", 8: f"{value:o}", 10: str(value), 16: f"{value:x}"}[base]


def _prefix(spec: Spec, digits: str) -> str:
    if spec.verb == "O":
        return "0o"
    if "#" not in spec.flags:
        return ""
    return {"b": "0b", "o": "" if digits.startswith("0") else "0", "x": "0x", "X": "0X"}.get(spec.verb, "")


def _float_text(spec: Spec, value: float) -> str:
    form, precision = spec.verb, spec.precision
    if form == "v" or (form in "gG" and precision is None):
        text = shortest(value) if precision is None else _general(value, precision)
        return text.upper() if form == "G" else text
    if form in "gG":
        text = _general(value, precision or 0)
        return text.upper() if form == "G" else text
    digits = 6 if precision is None else min(precision, 400)  # a float has no more, and zeros follow
    text = f"{value:.{digits}{form}}"
    return text if precision is None or precision <= digits or form in "eE" else text + "0" * (precision - digits)


def _general(value: float, precision: int) -> str:
    return f"{value:.{min(max(precision, 1), 400)}g}"


def _character(value: int) -> str:
    return chr(value) if 0 <= value <= 0x10FFFF and not 0xD800 <= value < 0xE000 else "\ufffd"


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\"}


def _quoted(text: str, raw: bool, ascii_only: bool) -> str:
    """Return a string as a Go literal."""
    if raw and "`" not in text and all(c == "\t" or c.isprintable() for c in text):
        return f"`{text}`"
    return '"' + "".join(_literal(character, '"', ascii_only) for character in text) + '"'


def _quoted_character(character: str) -> str:
    return f"'{_literal(character, chr(39), False)}'"


def _literal(character: str, quote: str, ascii_only: bool) -> str:
    if character == quote:
        return "\\" + character
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{encoded(character)[0]:02x}"
    if character == " " or (character.isprintable() and (code < 128 or not ascii_only)):
        return character
    if code < 128:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
