"""Tests of access: who may do what."""
