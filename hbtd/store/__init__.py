"""The stores of judgements and records, and the parts of hbtd that read and write a store.

The stores, in memory, in an SQLite file or in etcd, have one interface, `IStore`.
"""
