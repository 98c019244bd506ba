"""Makes packages of hbtd, and installs it on a host: `make install`, `make release`.

`environment` builds the private environment in which hbtd is installed, `layout` puts links, units
and documents where a host looks for them, `packages` makes a `.deb` and an `.rpm` of both,
`wheelhouse` an archive for hosts without network. Nothing of hbtd is imported.
"""
