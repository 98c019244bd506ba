"""A model of replicas, etcd and HSM in Promela, which spin checks exhaustively; see README.md."""
