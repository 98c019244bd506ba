"""Authentication and authorization: who sends a request, and what they may do.

`gate` decides by the rules of `hbtd.config.access_rules`. `peers` identifies the other end of a
connection, `tokens` holds operators' tokens, `jwt` and `jwks` verify nodes' JWTs, `refusals` counts
and logs the requests that are refused, and `service` builds these from the parameters. The package
uses no part of a request but the value of its `Authorization` header.
"""
