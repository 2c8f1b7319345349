"""Anthropic's dialect: `/v1/messages`, as its clients speak it."""
