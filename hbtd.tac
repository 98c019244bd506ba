"""hbtd as a twistd application, configured by environment variables: `twistd -ny hbtd.tac`."""

from twisted.application.service import Application

from hbtd.tap import Options, makeService

options = Options()
options.parseOptions([])
application = Application("hbtd")
makeService(options).setServiceParent(application)
