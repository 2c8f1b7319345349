"""What Ollama's templates are given: messages and tools as structs with Go's names, that print as they do there.

Separate from the template because it is a table of names and orders. Input are the JSON values of `conversation`,
marked already. What Ollama drops of a tool's schema (`default`, `minimum`, …) stays, after what it keeps.
Source: the types of Ollama's API, version 0.33.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .gotemplate.values import JsonList, JsonMap, Record, TypeNames, Value

_MESSAGE = {
    "Role": "role",
    "Content": "content",
    "Thinking": "thinking",
    "Images": "images",
    "ToolCalls": "tool_calls",
    "ToolName": "tool_name",
    "ToolCallID": "tool_call_id",
}
_TOOL = {"Type": "type", "Items": "items", "Function": "function"}
_FUNCTION = {"Name": "name", "Description": "description", "Parameters": "parameters"}
_PARAMETERS = {
    "Type": "type",
    "Defs": "$defs",
    "Items": "items",
    "Required": "required",
    "Properties": "properties",
}
_PROPERTY = {
    "AnyOf": "anyOf",
    "Type": "type",
    "Items": "items",
    "Description": "description",
    "Enum": "enum",
    "Properties": "properties",
    "Required": "required",
}
_TYPE_SCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


def messages_value(messages: Sequence[Mapping[str, Any]]) -> list[Value]:
    """Return `.Messages`: those of one role that follow each other are one, except results of tools."""
    collated: list[dict[str, Any]] = []
    for message in messages:
        if collated and collated[-1]["role"] == message["role"] != "tool":
            collated[-1] = {**collated[-1], "content": f"{collated[-1]['content']}\n\n{message['content']}"}
        else:
            collated.append(dict(message))
    return [_message(message) for message in collated]


def tools_value(tools: Sequence[Mapping[str, Any]]) -> JsonList:
    """Return `.Tools`."""
    return JsonList(_tool(tool) for tool in tools)


def _message(message: Mapping[str, Any]) -> Record:
    fields = {
        "Role": message["role"],
        "Content": message["content"],
        "Thinking": message.get("thinking", ""),
        "Images": [],
        "ToolCalls": [_call(index, call) for index, call in enumerate(message.get("tool_calls", ()))],
        "ToolName": message.get("name", ""),
        "ToolCallID": message.get("tool_call_id", ""),
    }
    return Record("api.Message", fields, _MESSAGE, frozenset(fields) - {"Role", "Content"})


def _call(index: int, call: Mapping[str, Any]) -> Record:
    given = call["function"]["arguments"]
    arguments = JsonMap(given) if isinstance(given, dict) else given
    fields = {"Index": index, "Name": call["function"]["name"], "Arguments": arguments}
    keys = {"Index": "index", "Name": "name", "Arguments": "arguments"}
    function = Record("api.ToolCallFunction", fields, keys)
    return Record(
        "api.ToolCall",
        {"ID": call["id"], "Function": function},
        {"ID": "id", "Function": "function"},
        frozenset(("ID",)),
    )


def _tool(tool: Mapping[str, Any]) -> Record:
    given = tool["function"]
    function = {
        "Name": given["name"],
        "Description": given.get("description", ""),
        "Parameters": _parameters(given.get("parameters") or {}),
    }
    fields = {
        "Type": tool["type"],
        "Items": None,
        "Function": Record("api.ToolFunction", function, _FUNCTION, frozenset(("Description",)), prints_json=True),
    }
    return Record("api.Tool", fields, _TOOL, frozenset(("Items",)), prints_json=True)


def _parameters(schema: Mapping[str, Any]) -> Record:
    fields = _fields(schema, _PARAMETERS) | {
        "Type": schema.get("type", "object"),
        "Properties": _properties(schema.get("properties") or {}),
    }
    optional = frozenset(("Defs", "Items", "Required"))
    more = _more(schema, _PARAMETERS)
    return Record("api.ToolFunctionParameters", fields, _PARAMETERS, optional, more, prints_json=True)


def _properties(schemas: Any) -> Value:
    if not isinstance(schemas, Mapping):
        return schemas
    return JsonMap((name, _property(schema)) for name, schema in schemas.items())


def _property(schema: Any) -> Value:
    """Return one property of a schema; what is no mapping (`true`) stays what it is."""
    if not isinstance(schema, Mapping):
        return schema
    types = _types(schema.get("type"))
    choices = schema.get("anyOf")
    fields = _fields(schema, _PROPERTY) | {
        "AnyOf": [_property(choice) for choice in choices] if isinstance(choices, list) else [],
        "Type": types,
        "Properties": _properties(schema["properties"]) if schema.get("properties") else None,
    }
    return Record(
        "api.ToolProperty",
        fields,
        _PROPERTY,
        frozenset(_PROPERTY),
        _more(schema, _PROPERTY),
        {"ToTypeScriptType": lambda: _type_script(fields)},
    )


def _fields(schema: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Value]:
    empty: dict[str, Value] = {"Description": "", "Required": [], "Enum": []}
    return {name: schema.get(key, empty.get(name)) for name, key in keys.items()}


def _more(schema: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Value]:
    return {key: value for key, value in schema.items() if key not in keys.values()}


def _types(given: Any) -> TypeNames:
    if isinstance(given, str):
        return TypeNames((given,))
    return TypeNames(filter(lambda name: isinstance(name, str), given)) if isinstance(given, list) else TypeNames()


def _type_script(fields: Mapping[str, Value]) -> str:
    choices = [choice.methods["ToTypeScriptType"]() for choice in fields["AnyOf"] if isinstance(choice, Record)]
    return " | ".join(choices or [_TYPE_SCRIPT.get(name, "any") for name in fields["Type"]]) or "any"
