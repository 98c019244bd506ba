"""Who may do what.

`ways` reads the options, `peers`, `tokens`, `jwks` and `bearers` find out whom a request comes
from, `gate` decides, and `complaints` tells the log of those who were turned away. Nothing in here
knows HTTP beyond the value of one header.
"""
