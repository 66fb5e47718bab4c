"""The OpenAI surface of the gateway over real models, as suites that run on any pair of them.

A test module subclasses a suite (`class TestChat(ChatSurface)`) and its conftest imports the fixture `surface` from
`tests.surface.fixtures` and defines the session fixtures `served_teacher`, `served_student` (a `Served` each) and
`redis_url`. `tests/router` runs them on the embedded engine, `tests/vllm` on vLLM. The models are the demo's.
"""
