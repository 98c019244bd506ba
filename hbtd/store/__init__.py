"""Where what must outlive the moment is kept: one interface, one module for each kind of store."""
