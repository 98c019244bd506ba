"""The REST API: a Klein resource tree whose handlers only translate.

`app` puts the tree together, `bodies` reads what comes in, `problems` says what went wrong, and
the other modules hold the handlers, a module for each kind of question.
"""
