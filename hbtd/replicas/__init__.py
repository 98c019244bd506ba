"""Several replicas that act as one, by way of etcd.

`replica.Replica` is the whole of it. `sync` reads what is in etcd and watches its changes, and
`applier` applies them; `election` decides which replica leads, which `leadership` tells everything
that one replica alone may do; `shared_params` keeps the parameters of all the same. An hbtd with a
store of its own has `alone.Alone` instead.
"""
