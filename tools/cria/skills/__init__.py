"""One module per family of skills; each offers functions that draw a conversation."""
