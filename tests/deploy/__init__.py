"""Tests of what is in `deploy/`: alerts, and the dashboard."""
