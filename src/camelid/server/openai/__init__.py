"""OpenAI's dialect: its bodies and replies as pure functions, and the routes that join them to the runtime."""
