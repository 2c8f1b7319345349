"""The grammars of an engine's requests: compiled in a thread beside the steps, so that no running answer waits.

Apart from the engine because only this knows that compiling takes time. It needs a vocabulary, which an engine is told
when the first grammar comes: most never see one.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from camelid.errors import InvalidRequest
from camelid.grammar.compiler import Compiler
from camelid.grammar.matcher import Matcher
from camelid.grammar.vocabulary import Vocabulary


class Grammars:
    """What makes matchers. Without a vocabulary, requests with a grammar are refused."""

    def __init__(self) -> None:
        self._compiler: Compiler | None = None
        self._thread: ThreadPoolExecutor | None = None

    def learn(self, vocabulary: Vocabulary) -> None:
        """Take the model's vocabulary, once; it does not change."""
        if self._compiler is None:
            self._compiler = Compiler(vocabulary)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="camelid grammars")

    def prepare(self, source: str | None) -> Future[None] | None:
        """Begin to compile a grammar; return what to wait for, None if there is nothing to wait for."""
        if source is None or self._compiler is None or self._thread is None or self._compiler.is_ready(source):
            return None
        return self._thread.submit(self._compiler.compile, source)

    def begin(self, source: str | None) -> Matcher | None:
        """Return a new matcher, None where there is no grammar. Raises InvalidRequest, of which BadGrammar is one."""
        if source is None:
            return None
        if self._compiler is None:
            raise InvalidRequest("this engine knows no vocabulary, so it follows no grammar", field="grammar")
        return self._compiler.begin(source)

    def close(self) -> None:
        """End the thread and free the compiled grammars."""
        if self._compiler is not None and self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._compiler.close()
