"""Pairs as training data: what may leave, without personal data and near-duplicates, in the form a trainer reads."""
