"""hbtd as a twistd application in the foreground, configured by HBTD_*: `twistd -ny hbtd.tac`."""

from os import environ

from twisted.application.service import Application

from hbtd.options import CommandLine
from hbtd.service import make_service

options = CommandLine(environ)
options.parseOptions([])
application = Application("hbtd")
make_service(options.params, environ, own_log=True).setServiceParent(application)
