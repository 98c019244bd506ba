"""Tests of the tracker and the observed clock."""
