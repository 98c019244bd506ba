"""hbtd's unit under a real systemd: `make systemd-root`, then `make test-systemd`."""
