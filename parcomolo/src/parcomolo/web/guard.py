"""Who may change how the shop runs: whoever has the admin token, or sits at the machine where none is set.

    token set                      every such request carries it as `Authorization: Bearer <token>`
    none set, loopback address     no token is needed
    none set, any other address    such requests are refused; the answer names the setting

Neighbours: `bootstrap` makes one of the settings; routes of operators ask it.
"""

from __future__ import annotations

import hmac

from parcomolo.configuration import ADMIN_TOKEN
from parcomolo.web.endpoint import Call
from parcomolo.web.problems import Problem

SCHEME = "Bearer"


class Guard:
    """See the module.

    Args:
        token: the admin token; empty for none.
        loopback: whether only this machine can reach the server.
    """

    def __init__(self, token: str = "", *, loopback: bool = True) -> None:
        self._token = token
        self._loopback = loopback

    def check(self, call: Call) -> None:
        """Let a request pass.

        Raises:
            Problem: the token is missing or wrong (401), or none is set though others can reach the server (403).
        """
        if not self._token:
            if self._loopback:
                return
            detail = f"This server can be reached from other machines and has no admin token; set {ADMIN_TOKEN.variable}."
            raise Problem(403, "no-admin-token", "Nobody may do that here.", detail=detail)
        scheme, _, given = (call.header(b"authorization") or "").partition(" ")
        if scheme.lower() != SCHEME.lower() or not hmac.compare_digest(given.strip().encode(), self._token.encode()):
            detail = f"Send the admin token as `Authorization: {SCHEME} ...`."
            problem = Problem(401, "admin-token", "The admin token is missing or wrong.", detail=detail)
            problem.challenge = SCHEME
            raise problem
