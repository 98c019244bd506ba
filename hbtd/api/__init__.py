"""The REST API: Klein routes, whose handlers translate between HTTP and other parts of hbtd.

`app` combines the routes into one resource, `routes` defines what a route is, `authorization`
decides who may call a route, and the other modules have the handlers of groups of routes.
`fastlane` answers plain heartbeats without Klein.
"""
