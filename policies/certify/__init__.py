"""Certificates: thresholds whose loss is bounded with confidence, offline and while traffic drifts."""
