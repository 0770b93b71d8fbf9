#!/usr/bin/env python3
"""As much of curl as the README's tour needs, for machines that have none: -s, -X, -H, --json and a URL."""

import argparse
import sys
import urllib.error
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("-s", action="store_true")
parser.add_argument("-X", dest="method")
parser.add_argument("-H", dest="headers", action="append", default=[])
parser.add_argument("--json", dest="body")
parser.add_argument("url")
given = parser.parse_args()

headers = dict(header.split(": ", 1) for header in given.headers)
if given.body is not None:
    headers["Content-Type"] = "application/json"
body = None if given.body is None else given.body.encode()
request = urllib.request.Request(given.url, body, headers, method=given.method)
try:
    with urllib.request.urlopen(request) as answer:
        sys.stdout.write(answer.read().decode())
except urllib.error.HTTPError as refusal:
    with refusal:
        sys.stdout.write(refusal.read().decode())
