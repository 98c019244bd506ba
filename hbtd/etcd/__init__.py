"""A client of etcd, over its v3 JSON gateway.

The rest of hbtd uses `client.EtcdClient`, and the watches (`watch.Watch`) that the client makes.
The other modules serve the client and the watches: `gateway` makes the requests, `session` keeps
the authentication token, `messages` has the types and their JSON, and `errors` has the exceptions.
"""
