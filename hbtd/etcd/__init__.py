"""A client of etcd, over its v3 JSON gateway.

The rest of hbtd uses `client.EtcdClient`, and the `watch.Watch` that it makes. Beneath them,
`gateway` makes the requests, `messages` has the types and their JSON, and `errors` the exceptions.
"""
