"""Authentication and authorization: identifies the senders of requests, and decides their rights.

`gate` decides by the rules of `hbtd.config.access_rules`. `peers` identifies the other end of a
connection, `tokens` holds operators' tokens, `jwt` and `jwks` verify nodes' JWTs, `refusals` counts
and logs the requests that are refused, and `service` builds all of these from the parameters. The
only part of a request that the package reads is the value of the `Authorization` header.
"""
