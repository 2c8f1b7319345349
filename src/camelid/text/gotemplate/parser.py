"""Go templates: tokens to a tree. What is certain to fail is told here: unknown functions, undefined variables.

Recursive descent over the tokens of one template, `{{ define }}` and `{{ block }}` included.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from . import nodes
from .failure import failure
from .functions import FUNCTIONS
from .lexer import Kind, Token, tokenize
from .literals import character, number, unquote

MAX_NESTING = 64  # of blocks and parentheses; templates in use stay below 12
MAIN = ""  # the name of what stands outside of every definition

_TERMS = frozenset(
    (Kind.DOT, Kind.FIELD, Kind.VARIABLE, Kind.WORD, Kind.STRING, Kind.RAW, Kind.NUMBER, Kind.CHARACTER, Kind.LEFT)
)
_CONSTANTS = ("true", "false", "nil")
_BRANCHES: Mapping[str, type[nodes.Branch]] = {"if": nodes.If, "with": nodes.With, "range": nodes.Range}


@dataclass(frozen=True)
class TemplateSet:
    """A parsed template: what it writes, and what it defines for itself by name."""

    definitions: Mapping[str, nodes.Nodes]

    @property
    def root(self) -> nodes.Nodes:
        """What is rendered."""
        return self.definitions[MAIN]


def parse(source: str, functions: Collection[str] = FUNCTIONS.keys()) -> TemplateSet:
    """Return the template that `source` writes. Raises TemplateError with the line."""
    return _Parser(source, functions).parse()


class _Parser:
    """The state of one parse: where it stands, which variables there are, how deep it is."""

    def __init__(self, source: str, functions: Collection[str]) -> None:
        self._tokens = list(tokenize(source))
        self._at = 0
        self._functions = functions
        self._definitions: dict[str, nodes.Nodes] = {}
        self._variables = ["$"]
        self._num_ranges = 0
        self._depth = 0

    def parse(self) -> TemplateSet:
        found: list[nodes.Node] = []
        while self._peek().kind is not Kind.END:
            if self._takes_definition():
                continue
            node = self._node()
            if isinstance(node, Token):
                raise failure(node.line, f"unexpected {{{{{node.text}}}}}")
            found.append(node)
        self._define(MAIN, tuple(found), 1)
        return TemplateSet(self._definitions)

    # ── blocks ──

    def _takes_definition(self) -> bool:
        """Parse a `{{ define }}` if there is one: only here, outside of everything else."""
        if self._peek().kind is not Kind.OPEN or self._after_space(1).text != "define":
            return False
        line = self._next().line
        self._next_no_space()
        name = self._name("define")
        self._expect_close("define")
        self._define(name, self._alone(line), line)
        return True

    def _alone(self, line: int) -> nodes.Nodes:
        """Parse the body of a definition, which sees no variables and no range from outside."""
        variables, ranges = self._variables, self._num_ranges
        self._variables, self._num_ranges = ["$"], 0
        body, end = self._body(line)
        if end.text != "end":
            raise failure(end.line, "unexpected {{else}} in a definition")
        self._variables, self._num_ranges = variables, ranges
        return body

    def _define(self, name: str, body: nodes.Nodes, line: int) -> None:
        """Keep a definition. A later one replaces an earlier one that is empty; two that are not are an error."""
        known = self._definitions.get(name)
        if known is None or _is_empty(known):
            self._definitions[name] = body
        elif not _is_empty(body):
            raise failure(line, f"the template {name[:40]!r} is defined twice")

    def _body(self, line: int) -> tuple[nodes.Nodes, Token]:
        """Parse up to `{{ end }}` or `{{ else`, and return the keyword too."""
        self._enter(line)
        found: list[nodes.Node] = []
        while self._peek().kind is not Kind.END:
            node = self._node()
            if isinstance(node, Token):
                self._depth -= 1
                return tuple(found), node
            found.append(node)
        raise failure(line, "a block that begins here has no {{end}}")

    def _node(self) -> nodes.Node | Token:
        """Parse text or an action; return the keyword where it ends a block."""
        token = self._next()
        if token.kind is Kind.TEXT:
            return nodes.Text(token.text)
        word = self._peek_no_space()
        if word.kind is Kind.KEYWORD and word.text not in _CONSTANTS and not self._is_function(word):
            self._next_no_space()
            return self._control(word)
        return nodes.Action(self._pipeline("command", Kind.CLOSE))

    def _is_function(self, word: Token) -> bool:
        """Tell whether `break` or `continue` is a function here; Go knows both as either."""
        return word.text in ("break", "continue") and word.text in self._functions

    def _control(self, word: Token) -> nodes.Node | Token:
        if word.text in _BRANCHES:
            return self._branch(word)
        if word.text in ("break", "continue"):
            return self._leap(word)
        if word.text == "template":
            return self._call(word)
        if word.text == "block":
            return self._block(word)
        if word.text == "end":
            self._expect_close("end")
            return word
        if word.text == "else":
            following = self._peek_no_space()
            if following.text not in ("if", "with") or following.kind is not Kind.KEYWORD:
                self._expect_close("else")
            return word
        raise failure(word.line, f"unexpected {{{{{word.text}}}}}")

    def _branch(self, word: Token) -> nodes.Branch:
        num_variables = len(self._variables)
        is_range = word.text == "range"
        pipeline = self._pipeline(word.text, Kind.CLOSE)
        self._num_ranges += is_range
        body, end = self._body(word.line)
        self._num_ranges -= is_range
        otherwise = self._otherwise(word, end) if end.text == "else" else ()
        del self._variables[num_variables:]
        return _BRANCHES[word.text](pipeline, body, otherwise)

    def _otherwise(self, word: Token, otherwise: Token) -> nodes.Nodes:
        """Parse what follows `{{ else`: `else if` of an if and `else with` of a with share their `{{ end }}`."""
        following = self._peek_no_space()
        if following.kind is Kind.KEYWORD and following.text in ("if", "with"):
            if following.text != word.text:
                raise failure(following.line, f"{{{{else {following.text}}}}} does not belong to {{{{{word.text}}}}}")
            self._next_no_space()
            self._enter(following.line)
            chained = self._branch(following)
            self._depth -= 1
            return (chained,)
        body, end = self._body(otherwise.line)
        if end.text != "end":
            raise failure(end.line, "expected {{end}}, found another {{else}}")
        return body

    def _leap(self, word: Token) -> nodes.Node:
        self._expect_close(word.text)
        if not self._num_ranges:
            raise failure(word.line, f"{{{{{word.text}}}}} outside of {{{{range}}}}")
        return nodes.Break() if word.text == "break" else nodes.Continue()

    def _call(self, word: Token) -> nodes.Call:
        name = self._name("template")
        if self._peek_no_space().kind is Kind.CLOSE:
            self._next_no_space()
            return nodes.Call(word.line, name)
        return nodes.Call(word.line, name, self._pipeline("template", Kind.CLOSE))

    def _block(self, word: Token) -> nodes.Call:
        name = self._name("block")
        pipeline = self._pipeline("block", Kind.CLOSE)
        self._define(name, self._alone(word.line), word.line)
        return nodes.Call(word.line, name, pipeline)

    def _name(self, context: str) -> str:
        token = self._next_no_space()
        if token.kind not in (Kind.STRING, Kind.RAW):
            raise failure(token.line, f"{context} needs a name in quotes, found {token.text[:40]!r}")
        return str(self._literal(token))

    # ── pipelines ──

    def _pipeline(self, context: str, end: Kind) -> nodes.Pipeline:
        line = self._peek_no_space().line
        variables, assigns = self._declarations(context)
        commands: list[nodes.Command] = []
        while True:
            token = self._peek_no_space()
            if token.kind is end:
                self._next_no_space()
                break
            if token.kind not in _TERMS and token.text not in _CONSTANTS:
                raise self._unexpected(token, context)
            commands.append(self._command())
        if not commands:
            raise failure(line, f"{context} has no value")
        for command in commands[1:]:
            if isinstance(command.operands[0], nodes.Constant | nodes.Dot | nodes.Nil):
                raise failure(line, "only the first command of a pipeline may be a value")
        self._variables += () if assigns else variables
        return nodes.Pipeline(line, tuple(commands), variables, assigns)

    def _declarations(self, context: str) -> tuple[tuple[str, ...], bool]:
        """Parse `$x :=`, `$x =` and, in a range, `$i, $x :=`."""
        start = self._at
        found: list[str] = []
        while self._peek_no_space().kind is Kind.VARIABLE:
            found.append(self._next_no_space().text)
            sign = self._peek_no_space()
            if sign.kind in (Kind.DECLARE, Kind.ASSIGN):
                self._next_no_space()
                self._check_known(found if sign.kind is Kind.ASSIGN else [], sign)
                return tuple(found), sign.kind is Kind.ASSIGN
            if sign.text != ",":
                break
            if context != "range" or len(found) == 2:
                raise failure(sign.line, f"too many variables in {context}")
            self._next_no_space()
        self._at = start
        return (), False

    def _check_known(self, names: list[str], token: Token) -> None:
        for name in names:
            if name not in self._variables:
                raise failure(token.line, f"undefined variable {name[:40]!r}")

    def _command(self) -> nodes.Command:
        operands: list[nodes.Operand] = []
        while True:
            self._peek_no_space()
            operand = self._operand()
            if operand is not None:
                operands.append(operand)
            token = self._next()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.CLOSE, Kind.RIGHT):
                self._at -= 1
            elif token.kind is not Kind.PIPE:
                raise self._unexpected(token, "an operand")
            break
        if not operands:
            raise failure(token.line, "a command is empty")
        return nodes.Command(tuple(operands))

    def _operand(self) -> nodes.Operand | None:
        token = self._peek_no_space()
        if token.kind not in _TERMS and token.text not in _CONSTANTS:
            return None
        term = self._term(self._next_no_space())
        names: list[str] = []
        while self._peek().kind is Kind.FIELD:
            names.append(self._next().text[1:])
        if not names:
            return term
        if isinstance(term, nodes.Field):
            return nodes.Field((*term.names, *names))
        if isinstance(term, nodes.Variable):
            return nodes.Variable(term.name, (*term.names, *names))
        if isinstance(term, nodes.Function | nodes.Pipeline):
            return nodes.Chain(term, tuple(names))
        raise failure(token.line, f"unexpected . after {token.text[:40]!r}")

    def _term(self, token: Token) -> nodes.Operand:
        match token.kind:
            case Kind.DOT:
                return nodes.Dot()
            case Kind.FIELD:
                return nodes.Field((token.text[1:],))
            case Kind.VARIABLE:
                self._check_known([token.text], token)
                return nodes.Variable(token.text)
            case Kind.LEFT:
                self._enter(token.line)
                pipeline = self._pipeline("a parenthesis", Kind.RIGHT)
                self._depth -= 1
                return pipeline
            case Kind.KEYWORD:
                return nodes.Nil() if token.text == "nil" else nodes.Constant(token.text == "true")
            case Kind.WORD:
                if token.text not in self._functions:
                    raise failure(token.line, f"there is no function {token.text[:40]!r}")
                return nodes.Function(token.text)
        return nodes.Constant(self._literal(token))

    def _literal(self, token: Token) -> nodes.Literal:
        try:
            if token.kind is Kind.NUMBER:
                return number(token.text)
            return character(token.text) if token.kind is Kind.CHARACTER else unquote(token.text)
        except ValueError as error:
            raise failure(token.line, str(error)) from error

    # ── tokens ──

    def _enter(self, line: int) -> None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise failure(line, f"blocks and parentheses may be nested {MAX_NESTING} levels deep")

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += token.kind is not Kind.END
        return token

    def _peek_no_space(self) -> Token:
        while self._peek().kind is Kind.SPACE:
            self._at += 1
        return self._peek()

    def _next_no_space(self) -> Token:
        self._peek_no_space()
        return self._next()

    def _after_space(self, ahead: int) -> Token:
        at = self._at + ahead
        while self._tokens[at].kind is Kind.SPACE:
            at += 1
        return self._tokens[at]

    def _expect_close(self, context: str) -> None:
        token = self._next_no_space()
        if token.kind is not Kind.CLOSE:
            raise self._unexpected(token, context)

    def _unexpected(self, token: Token, context: str) -> Exception:
        found = repr(token.text[:40]) if token.text else "the end"
        return failure(token.line, f"unexpected {found} in {context}")


def _is_empty(body: nodes.Nodes) -> bool:
    return all(isinstance(node, nodes.Text) and not node.text.strip() for node in body)
