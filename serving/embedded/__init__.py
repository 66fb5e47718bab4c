"""A small inference engine: Llama checkpoints of a few million parameters, numpy alone, an OpenAI-compatible API.

One request, from the socket to the model and back:
`endpoints` -> `protocol` (what was asked) -> `chat` (prompt) -> `engine` -> `scheduler` (one batched step at a time)
-> `model` (hidden states, logits) -> `sequence`, `sampling` (next token, text, stop) -> `responses` (OpenAI objects).

Its matrices are too small for BLAS threads to pay: `server.run` asks for one thread, which works when numpy was not
imported before it. Programs that import numpy first set `OPENBLAS_NUM_THREADS=1` in their environment.
"""
