"""Runs a parsed Go template on values, within a budget.

A tree walk. Every node and every operand is a step of the budget; blocks and templates that call templates count as
depth, so that Python's own stack is never the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from ..prompt import Marks
from . import nodes
from .budget import Budget, OverBudget
from .failure import failure
from .functions import FUNCTIONS, Context
from .marking import Marked
from .parser import MAIN, TemplateSet
from .printing import shown, text_of
from .values import FunctionError, Record, Value, encoded, is_list, prints_json, truth, type_name

_NO_MARKS = Marks()


class _Missing:
    """In place of a last argument that no pipeline hands on."""


_MISSING = _Missing()


class _Leap(Exception):
    """A `{{ break }}` or `{{ continue }}` on its way to its range."""

    def __init__(self, is_break: bool) -> None:
        super().__init__()
        self.is_break = is_break


def render(
    templates: TemplateSet,
    data: Value,
    *,
    budget: Budget | None = None,
    marks: Marks = _NO_MARKS,
    today: date | None = None,
) -> str:
    """Return what a template writes about `data`, which `.` and `$` are.

    budget: what it may cost, shared by the renders of one prompt; marks: those that the text from outside has.
    Raises TemplateError with the line, for what the template does wrong and for what goes over the budget.
    """
    context = Context(Marked(marks), budget or Budget(), today or date.today())
    run = _Run(templates, context)
    try:
        run.execute(MAIN, data)
    except FunctionError as error:
        raise failure(run.line, str(error)) from error
    except OverBudget as over:
        raise failure(run.line, str(over)) from over
    text = "".join(run.pieces)
    return text if text.isascii() else encoded(text).decode("utf-8", errors="replace")


class _Run:
    """One render: what is written so far, where it is, and the variables of the template that runs."""

    def __init__(self, templates: TemplateSet, context: Context) -> None:
        self._templates = templates
        self._context = context
        self._budget = context.budget
        self._depth = 0
        self._variables: list[tuple[str, Value]] = []
        self.pieces: list[str] = []
        self.line = 1

    def execute(self, name: str, data: Value) -> None:
        """Run one template of the set, with variables of its own."""
        body = self._templates.definitions.get(name)
        if body is None:
            raise FunctionError(f"there is no template {name[:40]!r}")
        outside, self._variables = self._variables, [("$", data)]
        self._walk_all(body, data)
        self._variables = outside

    # ── nodes ──

    def _walk_all(self, body: nodes.Nodes, dot: Value) -> None:
        self._enter()
        for node in body:
            self._walk(node, dot)
        self._depth -= 1

    def _walk(self, node: nodes.Node, dot: Value) -> None:
        self._budget.step()
        match node:
            case nodes.Text(text):
                self._write(text)
            case nodes.Action(pipeline):
                value = self._pipeline(pipeline, dot)
                if not pipeline.variables:
                    self._write(shown(value, self._context.marked))
            case nodes.If(pipeline, body, otherwise):
                self._choose(pipeline, body, otherwise, dot, looks_at_value=False)
            case nodes.With(pipeline, body, otherwise):
                self._choose(pipeline, body, otherwise, dot, looks_at_value=True)
            case nodes.Range():
                self._range(node, dot)
            case nodes.Call(line, name, argument):
                value = None if argument is None else self._pipeline(argument, dot)
                self.line = line
                self.execute(name, value)
            case nodes.Break() | nodes.Continue():
                raise _Leap(isinstance(node, nodes.Break))

    def _write(self, text: str) -> None:
        self._budget.write(len(text))
        self.pieces.append(text)

    def _choose(
        self, pipeline: nodes.Pipeline, body: nodes.Nodes, otherwise: nodes.Nodes, dot: Value, *, looks_at_value: bool
    ) -> None:
        num_variables = len(self._variables)
        value = self._pipeline(pipeline, dot)
        if truth(value):
            self._walk_all(body, value if looks_at_value else dot)
        else:
            self._walk_all(otherwise, dot)
        del self._variables[num_variables:]

    def _range(self, node: nodes.Range, dot: Value) -> None:
        num_outside, depth = len(self._variables), self._depth
        value = self._pipeline(node.pipeline, dot)
        num_variables = len(self._variables)
        is_empty = True
        for index, element in self._elements(value, node.pipeline):
            is_empty = False
            self._budget.step()
            self._set_range_variables(node.pipeline, index, element)
            try:
                self._walk_all(node.body, element)
            except _Leap as leap:
                self._depth = depth
                if leap.is_break:
                    break
            finally:
                del self._variables[num_variables:]
        if is_empty:
            self._walk_all(node.otherwise, dot)
        del self._variables[num_outside:]

    def _elements(self, value: Value, pipeline: nodes.Pipeline) -> Iterator[tuple[Value, Value]]:
        """Yield index and element: of a list, a map by its sorted keys, or the numbers below a number."""
        if isinstance(value, int) and not isinstance(value, bool):
            if len(pipeline.variables) > 1:
                raise FunctionError(f"can't use {value} to iterate over more than one variable")
            return ((None, number) for number in range(value))
        if isinstance(value, dict):
            self._budget.step(len(value))
            return iter(list(value.items()) if prints_json(value) else sorted(value.items()))
        if is_list(value):
            return iter(enumerate(value))
        if value is None:
            return iter(())
        raise FunctionError(f"range can't iterate over {text_of(value, self._context.marked)[:80]}")

    def _set_range_variables(self, pipeline: nodes.Pipeline, index: Value, element: Value) -> None:
        """Give a range's variables, which its pipeline has set to the whole, their values for one element."""
        names = pipeline.variables
        values = (element,) if len(names) == 1 else (index, element)
        for name, value in zip(names, values, strict=False):
            self._set(name, value, assigns=True)

    # ── pipelines ──

    def _pipeline(self, pipeline: nodes.Pipeline, dot: Value) -> Value:
        """Return the value of a pipeline, and give it to the variables that it declares."""
        self.line = pipeline.line
        value: Value = _MISSING
        for command in pipeline.commands:
            value = self._command(command, dot, value)
        for name in pipeline.variables:
            self._set(name, value, assigns=pipeline.assigns)
        return value

    def _set(self, name: str, value: Value, *, assigns: bool) -> None:
        if not assigns:
            self._variables.append((name, value))
            return
        self._variables[self._place(name)] = (name, value)

    def _command(self, command: nodes.Command, dot: Value, final: Value) -> Value:
        first, *rest = command.operands
        match first:
            case nodes.Function(name):
                return self._function(name, rest, dot, final)
            case nodes.Field(names):
                return self._fields(dot, names, has_arguments=bool(rest) or final is not _MISSING)
            case nodes.Chain(of, names):
                return self._fields(self._operand(of, dot), names, has_arguments=bool(rest) or final is not _MISSING)
            case nodes.Variable(_, names) if names:
                has_arguments = bool(rest) or final is not _MISSING
                return self._fields(self._variable(first.name), names, has_arguments=has_arguments)
            case nodes.Nil():
                raise FunctionError("nil is not a command")
        if rest or final is not _MISSING:
            raise FunctionError("can't give arguments to what is no function")
        return self._operand(first, dot)

    def _operand(self, operand: nodes.Operand, dot: Value) -> Value:
        self._budget.step()
        match operand:
            case nodes.Dot():
                return dot
            case nodes.Constant(value):
                return value
            case nodes.Field(names):
                return self._fields(dot, names, has_arguments=False)
            case nodes.Variable(name, names):
                return self._fields(self._variable(name), names, has_arguments=False)
            case nodes.Chain(of, names):
                return self._fields(self._operand(of, dot), names, has_arguments=False)
            case nodes.Function(name):
                return self._function(name, (), dot, _MISSING)
            case nodes.Pipeline():
                return self._parenthesis(operand, dot)
        return None

    def _parenthesis(self, pipeline: nodes.Pipeline, dot: Value) -> Value:
        self._enter()
        line = self.line
        value = self._pipeline(pipeline, dot)
        self.line = line
        self._depth -= 1
        return value

    def _variable(self, name: str) -> Value:
        return self._variables[self._place(name)][1]

    def _place(self, name: str) -> int:
        """Return where a variable is. One that the body of a block declares is known to its else, but not there."""
        for place in reversed(range(len(self._variables))):
            if self._variables[place][0] == name:
                return place
        raise FunctionError(f"undefined variable {name[:40]!r}")

    def _function(self, name: str, operands: Sequence[nodes.Operand], dot: Value, final: Value) -> Value:
        count = len(operands) + (final is not _MISSING)
        builtin = FUNCTIONS[name]
        least, most = (1, None) if builtin is None else (builtin.least, builtin.most)
        if count < least or (most is not None and count > most):
            wanted = f"at least {least}" if most is None else str(least)
            raise FunctionError(f"wrong number of arguments for {name}: {wanted} wanted, {count} given")
        if builtin is None:
            return self._first_that(name == "or", operands, dot, final)
        given = [self._operand(operand, dot) for operand in operands]
        self._budget.step()
        try:
            return builtin.call(self._context, given if final is _MISSING else [*given, final])
        except FunctionError as error:
            raise FunctionError(f"{name}: {error}") from error

    def _first_that(self, is_or: bool, operands: Sequence[nodes.Operand], dot: Value, final: Value) -> Value:
        """Return the first operand that decides `and` or `or`, or the last; those after it are not evaluated."""
        value: Value = None
        for operand in operands:
            value = self._operand(operand, dot)
            if truth(value) is is_or:
                return value
        return value if final is _MISSING else final

    # ── fields ──

    def _fields(self, value: Value, names: Sequence[str], *, has_arguments: bool) -> Value:
        """Return a field of a field. Of nil it is nil; but a nil on the way is an error, as in Go."""
        if value is None:
            return None
        for index, name in enumerate(names):
            self._budget.step()
            value = self._field(value, name, has_arguments=has_arguments and index == len(names) - 1)
        return value

    def _field(self, value: Value, name: str, *, has_arguments: bool) -> Value:
        if value is None:
            raise FunctionError(f"nil pointer evaluating {name}")
        if isinstance(value, Record):
            if has_arguments:
                raise FunctionError(f"{name} has arguments but cannot be invoked as a function")
            if name in value.methods:
                return value.methods[name]()
            if name in value.fields:
                return value.fields[name]
        elif isinstance(value, dict):
            if has_arguments:
                raise FunctionError(f"{name} is not a method but has arguments")
            return value.get(name, value.get(self._context.marked.seal(name)))
        if name == "String" and prints_json(value):
            return text_of(value, self._context.marked)
        raise FunctionError(f"can't evaluate field {name} in type {type_name(value)}")

    def _enter(self) -> None:
        self._depth += 1
        self._budget.check_depth(self._depth)
