"""Helpers that are neither models nor data: environment checks and checkpoints."""
