"""Watching a server by what it answers, and replacing it when it can't answer.

Triton's own health (`/v2/health/ready`) stays true while a Python stub is dead, requests inside
that stub are never ended, and no release starts a stub again. So the models are asked themselves.

    stubs.py       dead Python stubs, by looking at the server's child processes
    canary.py      one small request a model: from its `canary.json`, or made from its config
    asker.py       asks a canary again and again, and says how it went
    progress.py    whether a model answers others while a canary waits: overload is no death
    watcher.py     the three together: the first fault of a running server
    health.py      what is known, for probes over HTTP
    keeper.py      starts a server, and starts it again on a fault
    process.py     the `tritonserver` of a container
    container.py   the entry point of a container

Runs inside the images: imports the standard library, grpc and tritonclient's messages, nothing of
`builder`, and runs on Python 3.10.
"""
