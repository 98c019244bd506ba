"""The page that shows the machine, in a real browser: `make test-browser`."""
