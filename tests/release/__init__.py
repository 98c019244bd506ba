"""Tests of what makes packages of hbtd and installs it, as far as they take no package."""
