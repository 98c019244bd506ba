"""Fuzzing: targets for atheris, and generated requests."""
