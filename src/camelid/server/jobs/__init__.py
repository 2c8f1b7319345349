"""Requests that are answered later: `async_predict`, its queue, and the webhooks that results go to."""
