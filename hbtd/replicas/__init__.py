"""Several replicas that act as one, by way of etcd.

`replica.Replica` is the whole of it. `link` keeps it in touch with the others and `following` takes
up what they write; `leadership` settles who judges; `shared_params` gives all the same parameters.
"""
