"""hbtd's packages in clean Debian systems: `make systemd-root`, then `make test-packages`."""
