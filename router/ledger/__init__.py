"""Money: one function prices a usage, each call is settled exactly once, in integer nano-dollars."""
