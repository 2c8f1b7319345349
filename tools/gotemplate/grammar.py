"""Random templates and data: most of them well formed, so that what they compute is compared, not how they fail."""

from __future__ import annotations

import random
from typing import Any

FIELDS = ("S", "T", "N", "M", "F", "B", "L", "E", "D", "X", "Missing")
STRINGS = ('"a"', '"user"', '""', "`raw\\n`", '"<&\'\\">"', '"\\u00e9\\x41\\n"', '"%d %s"', '"日本"')
NUMBERS = ("0", "1", "-3", "7", "0x1F", "017", "1_000", "1.5", "-0.25", "1e3", "1e6", "123456789.0", "'a'", "'\\n'")
FORMATS = (
    "%s", "%v", "%d", "%5d|", "%-6s|", "%05d", "%+d", "%x", "%X", "%q", "%t", "%.2f", "%6.1f", "%e", "%g", "%c", "%U",
    "%T", "%%", "%#v", "%+v", "%s-%s", "%[2]v %[1]v", "%*d", "%!", "%o", "%b", "%08.3f", "% d", "%#x", "%", "%z",
)  # fmt: skip
FUNCTIONS = (
    "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "len", "index", "slice", "printf", "print", "println",
    "html", "js", "urlquery", "json",
)  # fmt: skip
TEXTS = ("a", " ", "\n", "text ", "\n  \n", "}", "{", "<|x|>", "é ")


def data(chance: random.Random) -> dict[str, Any]:
    """Return what a template looks at."""
    return {
        "S": chance.choice(("hello", "", "user", "<b>&\"'", "a\nb\tc", "日本語 é", "%d")),
        "T": chance.choice(("assistant", "tool", "x y+z/?=1")),
        "N": chance.choice((0, 1, 2, 5, -4, 100)),
        "M": chance.choice((3, 10)),
        "F": chance.choice((0.5, 1.25, -2.75, 1e21, 1.5e-7, 100000.5)),
        "B": chance.random() < 0.5,
        "L": chance.choice(([1, 2, 3], ["a", "b"], [], [False, True, 2.5], [[1], []], [{"S": "in", "N": 7}])),
        "E": [],
        "D": {"S": "deep", "N": 4, "L": [{"S": "x"}, {"S": "y", "D": {"k": 1.5}}], "z": None, "<k>": [True]},
        "X": None,
    }


class Writer:
    """Writes one template: what variables it has, and how much deeper it may go."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._variables = ["$"]
        self._num_defined = 0
        self._definitions = ""

    def template(self) -> str:
        """Return a template."""
        body = self._body(3, in_range=False)
        return self._definitions + body

    def _body(self, depth: int, *, in_range: bool) -> str:
        return "".join(self._node(depth, in_range) for _ in range(self._chance.randrange(1, 4)))

    def _node(self, depth: int, in_range: bool) -> str:
        way = self._chance.random()
        if way < 0.3 or depth == 0:
            return self._chance.choice(TEXTS)
        if way < 0.6:
            return self._action(self._pipeline(2))
        if way < 0.68:
            return self._declaration()
        if way < 0.72:
            return self._action(f"/* {self._chance.choice(TEXTS)} */", spaced=False)
        if way < 0.76 and in_range:
            return self._action(self._chance.choice(("break", "continue")))
        if way < 0.8 and self._num_defined < 2:
            return self._call(depth)
        return self._branch(depth, in_range)

    def _action(self, inner: str, spaced: bool = True) -> str:
        left = self._chance.choice(("{{- ", "{{ ", "{{ ", "{{"))
        right = self._chance.choice((" -}}", " }}", " }}", "}}"))
        if not spaced:  # a comment stands alone
            left, right = self._chance.choice((("{{- ", " -}}"), ("{{", "}}")))
        return left + inner + right

    def _declaration(self) -> str:
        value = self._pipeline(2)
        if len(self._variables) > 1 and self._chance.random() < 0.4:
            return self._action(f"{self._chance.choice(self._variables[1:])} = {value}")
        name = f"$v{len(self._variables)}"
        action = self._action(f"{name} := {value}")
        self._variables.append(name)
        return action

    def _call(self, depth: int) -> str:
        self._num_defined += 1
        name = f'"t{self._num_defined}"'
        outside, self._variables = self._variables, ["$"]
        body = self._body(depth - 1, in_range=False)
        self._variables = outside
        argument = self._operand(1)
        if self._chance.random() < 0.5:
            return f"{{{{block {name} {argument}}}}}{body}{{{{end}}}}"
        self._definitions += f"{{{{define {name}}}}}{body}{{{{end}}}}"
        return self._action(f"template {name} {self._chance.choice(('', argument))}")

    def _branch(self, depth: int, in_range: bool) -> str:
        word = self._chance.choice(("if", "if", "with", "range", "range"))
        num_variables = len(self._variables)
        declared = ""
        value = self._pipeline(1)
        if word == "range":
            value = self._chance.choice((".L", ".L", ".D", ".E", ".N", "$.L", ".D.L", value))
            if self._chance.random() < 0.5:
                names = [f"$v{num_variables + i}" for i in range(self._chance.choice((1, 2)))]
                declared, self._variables = ", ".join(names) + " := ", [*self._variables, *names]
        elif self._chance.random() < 0.2:
            declared = f"$v{num_variables} := "
            self._variables.append(f"$v{num_variables}")
        pieces = [self._action(f"{word} {declared}{value}")]
        pieces.append(self._body(depth - 1, in_range=in_range or word == "range"))
        if self._chance.random() < 0.4:
            pieces += [self._action("else"), self._body(depth - 1, in_range=in_range)]
        elif word == "if" and self._chance.random() < 0.3:
            pieces += [self._action(f"else if {self._pipeline(1)}"), self._body(depth - 1, in_range=in_range)]
        del self._variables[num_variables:]
        return "".join([*pieces, self._action("end")])

    def _pipeline(self, depth: int) -> str:
        stages = [self._command(depth)]
        while self._chance.random() < 0.25:
            one = self._chance.choice(("len", "not", "print", "html", "js", "urlquery", "json", 'printf "%v"', "eq 1"))
            stages.append(one)
        return " | ".join(stages)

    def _command(self, depth: int) -> str:
        if depth == 0 or self._chance.random() < 0.4:
            return self._operand(depth)
        return self._function(depth)

    def _function(self, depth: int) -> str:
        name = self._chance.choice(FUNCTIONS)
        if name in ("not", "len", "json"):
            return f"{name} {self._operand(depth - 1)}"
        if name == "printf":
            forms = "".join(self._chance.choices(FORMATS, k=self._chance.choice((1, 1, 2))))
            count = self._chance.choice((0, 1, 1, 2, 2, 3))
            return " ".join([f'printf "{forms}"', *(self._operand(depth - 1) for _ in range(count))])
        if name == "index":
            return self._chance.choice(
                (
                    f"index .L {self._chance.choice('012')}",
                    'index .D "S"',
                    'index .D "<k>" 0',
                    "index .S 0",
                    "index .D .S",
                )
            )
        if name == "slice":
            bounds = self._chance.choice(("", "1", "0 1", "1 2", "2 1", "0 1 1", "9"))
            return f"slice {self._chance.choice(('.L', '.S', '.T', '.D.L', '.X'))} {bounds}"
        count = 2 if name in ("ne", "lt", "le", "gt", "ge") else self._chance.choice((1, 2, 2, 3))
        return " ".join([name, *(self._operand(depth - 1) for _ in range(count))])

    def _operand(self, depth: int) -> str:
        way = self._chance.random()
        if way < 0.4:
            return "." + self._chance.choice(FIELDS)
        if way < 0.5:
            return self._chance.choice(("$.S", "$.D.S", ".D.N", ".D.L", ".D.z", ".", "$.L", ".D.Nope"))
        if way < 0.6:
            return self._chance.choice(STRINGS)
        if way < 0.75:
            return self._chance.choice(NUMBERS)
        if way < 0.8:
            return self._chance.choice(("true", "false", "nil"))
        if way < 0.9 and len(self._variables) > 1:
            return self._chance.choice(self._variables)
        return f"({self._pipeline(max(depth - 1, 0))})" + self._chance.choice(("", "", ".S")) if depth > 0 else ".S"
