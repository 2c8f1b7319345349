"""What a request may answer with, made ready for the engine: its own grammar, or the one that its tools make.

Apart from the turn because this is about the shape of an answer and not about one. The engine follows what comes out
of here; the vocabulary that it needs is told to it with the first grammar.
"""

from __future__ import annotations

import asyncio

from camelid.errors import InvalidRequest
from camelid.grammar.vocabulary import Vocabulary
from camelid.text.tokenizer import Tokenizer
from camelid.text.toolcalls.grammar import call_grammar, needs_grammar, parameters_of
from camelid.types import ChatRequest, Grammar, GrammarKind

from .model import LoadedModel


async def prepare(model: LoadedModel, grammar: Grammar | None) -> str | None:
    """Return a grammar as the engine takes it, and see that the engine has the vocabulary.

    Raises BadGrammar naming the grammar's field, Overloaded, MissingDependency.
    """
    if grammar is None:
        return None
    source = await asyncio.to_thread(model.grammars.prepare, grammar)
    await teach(model)
    return source


async def teach(model: LoadedModel) -> None:
    """See that the engine has the vocabulary."""
    if not model.engine.has_learned:
        model.engine.learn(await asyncio.to_thread(vocabulary_of, model.text.tokenizer))


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """Return the vocabulary as grammars see it. Takes half a second for 128K tokens."""
    tokens = tuple(tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size))
    return Vocabulary(tokens, tuple(sorted(tokenizer.control_ids)), tuple(sorted(tokenizer.eos_ids)))


def binds_calls(request: ChatRequest) -> bool:
    """Tell whether the calls of an answer are held to a grammar."""
    return needs_grammar(request.tools, request.tool_choice, has_answer=request.generation.grammar is not None)


async def chat_grammar(model: LoadedModel, request: ChatRequest) -> Grammar | None:
    """Return what a conversation's answer must be, None for anything.

    Tools whose calls must be well formed make a grammar, with the request's own beside it for the case that none is
    called. Raises InvalidRequest, of which BadGrammar is one, naming the field.
    """
    own = request.generation.grammar
    if not binds_calls(request):
        return own
    if own is not None and own.kind not in (GrammarKind.JSON_SCHEMA, GrammarKind.LENIENT_SCHEMA):
        raise InvalidRequest(f"{own.field} cannot be kept beside tools, unless it is a JSON schema", field=own.field)
    for tool in request.tools:  # each alone first, so that an error names the tool
        schema = Grammar.schema(parameters_of(tool), f"the parameters of {tool.name!r}", is_lenient=not tool.is_strict)
        await asyncio.to_thread(model.grammars.prepare, schema)
    answer = None if own is None else own.source
    return Grammar(GrammarKind.CALLS, call_grammar(request.tools, request.tool_choice, answer), "tools")
