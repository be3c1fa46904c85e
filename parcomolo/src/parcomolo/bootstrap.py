"""Puts Parcomolo together: services, engine, routes, server. The only file that names an engine or a server.

`application` is what `millrace --app parcomolo` loads; `serve` runs everything in one loop of one process.

Stopping: no new connections, streams end, requests in hand are answered (up to `GRACE_S`), then the application
finishes what is in hand and gives its partitions back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

from millrace import Application, ConfigurationError, Service, StoreUnavailable
from millrace.engines.sqlite import SqliteEngine
from parcomolo import catalogue, inventory, operations, orders, payments, reports, rewards, shipping
from parcomolo.configuration import DATA, HOST, PORT, Configuration, configuration, settle_checkout

GRACE_S = 3
