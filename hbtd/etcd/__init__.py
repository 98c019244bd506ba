"""etcd, by its v3 JSON gateway.

`client.EtcdClient` is what the rest of hbtd uses; `watch.Watch` follows changes. Beneath them
`gateway` makes the requests, `messages` has the types and how they look on the wire, and `errors`
what can go wrong.
"""
