"""Replaying a candidate policy on what the gateway logged: reading, deciding anew, telling."""
