"""The program of the process that checks grammars: a job on standard input, a reply on standard output, each a length
and JSON.

Run by its path, and it imports nothing of ours but numbers: the process is there to be killed. The job names the kind
and the source; the reply holds the source as the library reads it, or an error. Before the first job it limits its own
memory, and says that it is ready.
"""

from __future__ import annotations

import json
import struct
import sys
from typing import Any, BinaryIO

MAX_STEPS = 32


def main() -> None:
    """Serve until standard input ends. The arguments are the memory limit in bytes and the parser's limits as JSON."""
    from llguidance import LLParserLimits, LLTokenizer

    _limit_memory(int(sys.argv[1]))
    limits = LLParserLimits(**json.loads(sys.argv[2]), verbose_errors=False)
    single_bytes = LLTokenizer("byte")
    _reply(sys.stdout.buffer, {})
    while (job := _job(sys.stdin.buffer)) is not None:
        _reply(sys.stdout.buffer, check(job["kind"], job["source"], single_bytes, limits))


def check(kind: str, source: str, tokenizer: Any, limits: Any) -> dict[str, str]:
    """Return the reply to one job."""
    from llguidance import LLMatcher

    try:
        written = _written(kind, source)
        matcher = LLMatcher(tokenizer, written, log_level=0, limits=limits)
        _walk(matcher)
    except (ValueError, TypeError, RecursionError) as refused:
        return {"error": str(refused)}
    return {"error": matcher.get_error()} if matcher.is_error() else {"source": written}


def _walk(matcher: Any) -> None:
    """Write some bytes that the grammar allows, as an engine will write tokens.

    To parse it is not enough: the automata of some grammars (a multiple of a large number, a regex that repeats
    repetitions) are built only when they are walked.
    """
    for step in range(MAX_STEPS):
        if matcher.is_error() or matcher.is_stopped():
            return
        mask = matcher.compute_bitmask()
        allowed = [byte for byte in range(256) if mask[byte // 8] >> byte % 8 & 1]
        if not allowed:
            return
        matcher.consume_token(allowed[step * 7 % len(allowed)])


def _written(kind: str, source: str) -> str:
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

    if kind == "regex":
        return LLMatcher.grammar_from_regex(source)
    if kind == "gbnf":
        try:
            source = any_to_lark(source)
        except GbnfToLarkError as error:
            raise ValueError(str(error)) from error
    return source if kind == "json" else LLMatcher.grammar_from_lark(source)


def _limit_memory(num_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _job(stream: BinaryIO) -> dict[str, str] | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    job: dict[str, str] = json.loads(stream.read(*struct.unpack(">I", head)))
    return job


def _reply(stream: BinaryIO, value: dict[str, str]) -> None:
    data = json.dumps(value).encode()
    stream.write(struct.pack(">I", len(data)) + data)
    stream.flush()


if __name__ == "__main__":
    main()
