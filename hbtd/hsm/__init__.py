"""The Hardware State Manager: a client that speaks its REST API, and who decides what to say."""
