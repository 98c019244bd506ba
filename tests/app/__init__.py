"""Tests of the composition root and of the process."""
