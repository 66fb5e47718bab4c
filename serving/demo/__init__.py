"""The demo's tiny models: their tasks, their training from scratch and their checkpoints."""
