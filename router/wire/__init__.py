"""OpenAI's formats on both sides: bodies for upstreams, answers and streams from them, what the client sees.

A `Dialect` is what an upstream is spoken to in: chat, completions, responses or embeddings. A client of `/v1/responses`
is served in chat where the model does not declare `responses`.
"""
