"""The process that renders one Jinja template: a program of its own, started by `template_workers`.

A chat template comes with a model from anywhere and is a program: it can loop for ever or double a string for ever.
Jinja's sandbox stops neither, so it runs here, where the operating system does: with little memory, a second of
processor time for each prompt, no files and no way to open one. It imports jinja2 and the standard library only, so
that it starts fast, and it is run by its path, so that nothing else of Camelid is loaded.

It reads and writes frames (four bytes of length, then JSON) on its standard input and output. The first frame holds the
template and the limits, each further one a context to render.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Makes Jinja and Python load now what they load when it is first needed (codecs, error reports): later no file opens.
_WARM_UP = """{% macro m(x) %}{{ x | upper | tojson(indent=2) }}{% endmacro %}
{% for k, v in {'a': '\\n\\u00e9'} | items %}
{{ m(v) ~ '%s' | format(k) ~ strftime_now('%d %B %Y') ~ '{}'.format(k) ~ [3, 1] | sort | join(',') }}
{% endfor %}{{ nothing.at_all }}"""

# All that a template's own expressions can raise; anything else ends the process, and the parent reports that.
_FAILURES = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


class Outside(str):
    """Text from outside in which private characters stand for the ones that could spell a control token.

    What the template searches it for is marked the same way first, so that a template which looks for `<think>` finds
    it. Cutting it gives such text again. Operations that are not listed here give plain text that is still marked:
    they lose the ability to find marked characters, never the marks.
    """

    __slots__ = ()
    marks: dict[int, str] = {}  # protected to private, for the prompt that is being rendered  # noqa: RUF012

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str.__eq__(self, _marked(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(str(self).translate({ord(private): plain for plain, private in self.marks.items()}))

    def __contains__(self, part: object) -> bool:
        return isinstance(part, str) and str.__contains__(self, _marked(part))

    def __iter__(self) -> Iterator[str]:
        return map(Outside, str.__iter__(self))

    def __add__(self, other: str) -> str:
        return Outside(str.__add__(self, other))

    def __radd__(self, other: str) -> str:
        return Outside(other + str(self))


def _marked(value: Any) -> Any:
    """Mark a string that the template searches for; marked text stays as it is."""
    return value.translate(Outside.marks) if type(value) is str else value


def _from_outside(value: Any) -> Any:
    """Make the strings in a result text from outside again."""
    if isinstance(value, str):
        return Outside(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(_from_outside, value))
    return value


def _searching(name: str, num_searched: int) -> Callable[..., Any]:
    """Return str's method `name` with its first arguments marked and its result text from outside."""
    method = getattr(str, name)

    def call(self: Outside, *arguments: Any, **named: Any) -> Any:
        searched = [tuple(map(_marked, a)) if isinstance(a, tuple) else _marked(a) for a in arguments[:num_searched]]
        return _from_outside(method(self, *searched, *arguments[num_searched:], **named))

    call.__name__ = name
    return call


for _name in ("startswith", "endswith", "find", "rfind", "index", "rindex", "count", "split", "rsplit", "partition"):
    setattr(Outside, _name, _searching(_name, 1))
for _name in ("rpartition", "strip", "lstrip", "rstrip", "removeprefix", "removesuffix", "replace"):
    setattr(Outside, _name, _searching(_name, 1))
for _name in ("lower", "upper", "title", "capitalize", "casefold", "swapcase", "splitlines", "__getitem__", "__mul__"):
    setattr(Outside, _name, _searching(_name, 0))


class _Generation(Extension):
    """The tag `{% generation %}`, with which training marks the assistant's text; when prompting it does nothing."""

    tags = {"generation"}  # noqa: RUF012 - the name and type that Extension declares

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


def make_environment() -> ImmutableSandboxedEnvironment:
    """Return the environment that chat templates are written for: that of Hugging Face's transformers."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.concat = _concatenate  # type: ignore[method-assign]
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _concatenate(parts: Iterable[str]) -> str:
    """Join what a macro or block wrote; with marked text in it, it is text from outside."""
    text = "".join(parts)
    return Outside(text) if any(private in text for private in Outside.marks.values()) else text


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as it is, where Jinja's own filter escapes for HTML."""
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    if ensure_ascii:
        for private in Outside.marks.values():  # the characters that they stand for are ASCII
            text = text.replace(json.dumps(private)[1:-1], private)
    return text


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def render(template: Template, job: dict[str, Any], max_characters: int) -> dict[str, Any]:
    """Render one context. Returns {"text": …} or {"error": …}; `is_own` tells that the words are the template's."""
    Outside.marks = dict(zip(map(ord, job["plain"]), job["private"], strict=True))
    now = datetime.fromisoformat(job["now"])
    context = _take_in(job["context"], frozenset(job["private"]))
    pieces: list[str] = []
    size = 0
    try:
        for piece in template.generate(context, strftime_now=now.strftime):
            pieces.append(piece)
            size += len(piece)
            if size > max_characters:
                return {"error": f"wrote more than {max_characters} characters", "is_own": False}
    except _FAILURES as error:
        return _failure(error)
    return {"text": "".join(pieces)}


def _take_in(value: Any, private: frozenset[str]) -> Any:
    """Return a JSON value with every string that holds a private character made text from outside."""
    if isinstance(value, str):
        return value if private.isdisjoint(value) else Outside(value)
    if isinstance(value, dict):
        return {_take_in(key, private): _take_in(item, private) for key, item in value.items()}
    if isinstance(value, list):
        return [_take_in(item, private) for item in value]
    return value


def warm_up(environment: ImmutableSandboxedEnvironment) -> None:
    """Use each part of Jinja once, an error included."""
    template = environment.from_string(_WARM_UP)
    render(template, {"plain": "", "private": "", "now": "2024-07-23T00:00:00", "context": {}}, 1000)


def _failure(error: BaseException) -> dict[str, Any]:
    if type(error) is TemplateError:  # raised by raise_exception
        return {"error": str(error.message or ""), "is_own": True}
    line = error.lineno if isinstance(error, TemplateSyntaxError) else _line_in_template(error.__traceback__)
    place = f" at line {line}" if line else ""
    return {"error": f"failed{place}: {str(error) or type(error).__name__}", "is_own": False}


def _line_in_template(traceback: TracebackType | None) -> int | None:
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<template>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


def _confine(memory_bytes: int) -> None:
    """Give up the right to more memory, to files and to processes. Systems without such limits rely on the parent."""
    with contextlib.suppress(ImportError):
        import resource

        used = 0
        with contextlib.suppress(OSError), open("/proc/self/statm") as statm:
            used = int(statm.read().split()[0]) * os.sysconf("SC_PAGESIZE")
        for limit, value in {
            resource.RLIMIT_AS: used + memory_bytes,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_NOFILE: 3,  # standard input, output and error are open, and no more can be
        }.items():
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(limit, (value, value))


@contextlib.contextmanager
def _processor_time(seconds: float) -> Iterator[None]:
    """End the process when the body takes longer than this, wherever it is: nothing handles the signal."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _read_frame() -> Any:
    """Return the next frame's value, None when the parent is gone."""
    header = _read_exactly(4)
    return json.loads(_read_exactly(struct.unpack(">I", header)[0])) if header else None


def _read_exactly(size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = os.read(0, min(size - len(data), 1 << 20))
        if not chunk:
            return b""
        data += chunk
    return bytes(data)


def _write_frame(value: Any) -> None:
    data = json.dumps(value, ensure_ascii=False).encode("utf-8", errors="surrogatepass")
    view = memoryview(struct.pack(">I", len(data)) + data)
    while view:
        view = view[os.write(1, view) :]


def main() -> int:
    """Serve until the parent closes the connection or a prompt takes all memory."""
    start = _read_frame()
    if start is None:
        return 0
    environment = make_environment()
    warm_up(environment)
    _confine(start["memory_bytes"])
    try:
        with _processor_time(start["cpu_s"]):
            template = environment.from_string(start["template"])
    except (*_FAILURES, MemoryError) as error:
        _write_frame(_failure(error))
        return 1
    _write_frame({"ready": True})
    while (job := _read_frame()) is not None:
        try:
            with _processor_time(start["cpu_s"]):
                reply = render(template, job, job["max_characters"])
        except MemoryError:
            _write_frame({"error": "needed more memory than it may use", "is_own": False, "is_last": True})
            return 1
        _write_frame(reply)
    return 0


if __name__ == "__main__":
    sys.exit(main())
