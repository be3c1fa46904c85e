"""Engines: implementations of the ports. They know ports and below, and not each other.

Nothing outside an application's assembly, the command line and the testing kit imports an engine.
"""
