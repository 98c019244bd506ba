"""Authentication and authorization: who sends a request, and what they may do.

`gate` decides, as the rules of `hbtd.config.access_rules` say. `peers` identifies the other end of
a connection, `tokens` holds operators' tokens, `jwt` and `jwks` verify nodes' JWTs, `refusals`
counts and logs the requests that are refused, and `service` builds all of it from the parameters.
Of HTTP, this package knows nothing but the value of the `Authorization` header.
"""
