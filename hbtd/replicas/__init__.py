"""Replicas: several hbtd processes that share an etcd and act as one.

`replica.Replica` joins the other modules together. `sync` reads etcd and watches it for changes,
which `applier` applies to this replica; `election` decides which replica leads, and `leadership`
holds the result; `shared_params` keeps the parameters of all replicas the same. An hbtd that does
not share its store uses `alone.Alone` instead.
"""
