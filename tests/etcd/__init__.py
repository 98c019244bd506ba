"""Tests of etcd's client."""
