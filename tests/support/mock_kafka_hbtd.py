"""hbtd for the mock broker, which can't tell a client its version: `python -m` this module."""

import sys

from twisted.logger import globalLogBeginner, textFileLogObserver

from hbtd.app.service import HbtdService
from hbtd.config.command_line import CommandLine
from tests.support.running import mock_kafka, reactor


def main() -> None:
    """Run hbtd with the options of the command line until it is stopped."""
    options = CommandLine({})
    options.parseOptions(sys.argv[1:])
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    service = HbtdService(options.params, reactor, connect_kafka=mock_kafka)
    service.startService()
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    reactor.run()


if __name__ == "__main__":
    main()
