"""Tests of replicas that share an etcd."""
