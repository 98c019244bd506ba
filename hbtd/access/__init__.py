"""Authentication and authorization: finds out who sends a request, and decides what they may do.

`gate` decides by the rules of `hbtd.config.access_rules`. `peers` identifies the other end of a
connection, `tokens` holds operators' tokens, `jwt` and `jwks` verify nodes' JWTs, `refusals` counts
and logs the requests that are refused, and `service` builds all of these from the parameters. Of
the request itself, the package reads only the value of the `Authorization` header.
"""
