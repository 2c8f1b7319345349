"""What a parsed template says about itself: which names it uses, where the answer stands in it, how its calls begin.

Questions about the tree, asked once when a model is loaded; nothing is rendered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from . import nodes
from .parser import MAIN, TemplateSet


def names_in(templates: TemplateSet) -> frozenset[str]:
    """Return the names of all fields that a template and its definitions look at, in lower case."""
    bodies = templates.definitions.values()
    return frozenset(name.lower() for body in bodies for name in _names(body))


def with_response(templates: TemplateSet) -> TemplateSet:
    """Return a template that ends with `{{ .Response }}`."""
    response = nodes.Action(nodes.Pipeline(1, (nodes.Command((nodes.Field(("Response",)),)),)))
    return TemplateSet({**templates.definitions, MAIN: (*templates.root, response)})


def up_to_response(templates: TemplateSet) -> TemplateSet:
    """Return a template without what stands after `.Response`: there the model's answer begins."""
    root, _ = _cut(templates.root)
    return TemplateSet({**templates.definitions, MAIN: root})


def call_tag(templates: TemplateSet) -> str:
    """Return the text that a tool call begins with in the template, up to its JSON; empty if it has none.

    A bracket that only opens a list of calls is left out: models write it with and without a space before it.
    """
    body = _calls(templates.root)
    text = next(_first_text(body), "") if body is not None else ""
    tag = text.strip().replace("\r\n", "\n").partition("{")[0].strip()
    return tag.rstrip("[ \n\t") or tag


def _names(body: Iterable[nodes.Node]) -> Iterator[str]:
    for node in body:
        match node:
            case nodes.Action(pipeline) | nodes.Call(_, _, nodes.Pipeline() as pipeline):
                yield from _names_of(pipeline)
            case nodes.If(pipeline, inner, otherwise):
                yield from _names_of(pipeline)
                yield from _names((*inner, *otherwise))
            case nodes.With(pipeline, inner, otherwise) | nodes.Range(pipeline, inner, otherwise):
                yield from _names_of(pipeline)
                yield from _names((*inner, *otherwise))


def _names_of(operand: nodes.Operand) -> Iterator[str]:
    match operand:
        case nodes.Field(names) | nodes.Variable(_, names):
            yield from names
        case nodes.Chain(of, names):
            yield from names
            yield from _names_of(of)
        case nodes.Pipeline(_, commands):
            for command in commands:
                for inner in command.operands:
                    yield from _names_of(inner)


def _cut(body: nodes.Nodes) -> tuple[nodes.Nodes, bool]:
    """Return a body up to its `.Response`, and whether there is one. Conditions are not looked at."""
    kept: list[nodes.Node] = []
    for node in body:
        is_cut = False
        if isinstance(node, nodes.Action) and "Response" in _names_of(node.pipeline):
            is_cut = True
        elif isinstance(node, nodes.If | nodes.With | nodes.Range):
            inner, is_cut = _cut(node.body)
            otherwise, is_cut_there = (node.otherwise, False) if is_cut else _cut(node.otherwise)
            node = replace(node, body=inner, otherwise=() if is_cut else otherwise)
            is_cut |= is_cut_there
        kept.append(node)
        if is_cut:
            return tuple(kept), True
    return tuple(kept), False


def _calls(body: nodes.Nodes) -> nodes.Nodes | None:
    """Return the body of the first `{{ if .ToolCalls }}`."""
    for node in body:
        if isinstance(node, nodes.If) and "ToolCalls" in _names_of(node.pipeline):
            return node.body
        if isinstance(node, nodes.If | nodes.With | nodes.Range):
            found = _calls(node.body) or _calls(node.otherwise)
            if found is not None:
                return found
    return None


def _first_text(body: nodes.Nodes) -> Iterator[str]:
    """Yield texts that are not blank, up to the first value that is written."""
    for node in body:
        if isinstance(node, nodes.Text) and node.text.strip():
            yield node.text
        elif isinstance(node, nodes.If | nodes.With | nodes.Range):
            yield from _first_text((*node.body, *node.otherwise))
        elif isinstance(node, nodes.Action) and not node.pipeline.variables:
            yield ""
