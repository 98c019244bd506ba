"""The REST API: routes on Klein, whose handlers only translate between HTTP and the monitor.

`app` joins the routes to a resource, `routes` defines what a route is, `authorization` decides who
may call it, and each other module has the handlers of one group of routes. `fastlane` answers plain
heartbeats without Klein.
"""
