"""A simulated machine room: hbtd's real code in a world that one seed decides.

A world has one clock, which jumps to the next event, and one source of chance. Threads, files and
sockets are replaced at their interfaces; all else is hbtd itself, from the bytes of a request to
the bytes of an update to HSM.
"""
