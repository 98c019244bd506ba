"""A client of etcd, over its v3 JSON gateway.

The rest of hbtd uses `client.EtcdClient`, and the watches (`watch.Watch`) that the client makes.
They use `gateway`, which makes the requests, `messages`, which has the types and their JSON, and
`errors`, which has the exceptions.
"""
