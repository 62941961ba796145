"""Judges what reached an upstream: h11 parses it, and what h11 lets pass although two servers could differ is a fault.

Reads lines of JSON: {"connection": number, "data": base64, "ended": whether the connection ended}. Answers each with
one: {"requests": the requests that are complete now, "fault": what is wrong, or null}.
"""

import base64
import json
import re
import sys

import h11

# RFC 9112 with nothing that a receiver "MAY" or "SHOULD" tolerate: CRLF, one space, origin-form without fragment.
HEAD = re.compile(
    rb"[A-Z]+ /[\x21\x22\x24-\x7e]* HTTP/1\.1\r\n"
    rb"(?:[A-Za-z0-9-]+: (?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?\r\n)*\r\n"
)
# About one hop, or already answered by the gateway (RFC 9110 §7.6.1, §10.1.1).
HOP_BY_HOP = {
    "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "http2-settings", "expect",
}
# What the gateway says itself, and so says once.
ONCE = ("host", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id")
MOST_ONCE = ("authorization", "cookie", "x-user", "x-scopes", "content-length", "transfer-encoding", "connection", "te")


def judge(raw, fields):
    """What is wrong with one head, or None."""
    if not HEAD.fullmatch(raw):
        return f"the head is not strictly formed: {raw!r}"
    values = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    for name in ONCE:
        if len(values.get(name, [])) != 1:
            return f"{name} is there {len(values.get(name, []))} times"
    for name in MOST_ONCE:
        if len(values.get(name, [])) > 1:
            return f"{name} is there {len(values[name])} times"
    if "content-length" in values and "transfer-encoding" in values:
        return "two framings"
    if not re.fullmatch("0|[1-9][0-9]*", values.get("content-length", ["0"])[0]):
        return f"Content-Length: {values['content-length'][0]}"
    if values.get("transfer-encoding", ["chunked"]) != ["chunked"]:
        return f"Transfer-Encoding: {values['transfer-encoding'][0]}"
    for name in HOP_BY_HOP & values.keys():
        return f"{name} passed the gateway"
    if values.get("te", ["trailers"]) != ["trailers"]:
        return f"TE: {values['te'][0]}"
    if values.get("upgrade", ["websocket"]) != ["websocket"]:
        return f"Upgrade: {values['upgrade'][0]}"
    options = {name for name in ("te", "upgrade") if name in values}
    if set(values.get("connection", [""])[0].split(", ")) - {""} != options:
        return f"Connection: {values.get('connection')} with {options}"
    return None


class Connection:
    """One connection to the upstream."""

    def __init__(self):
        self.parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        self.request = None

    def feed(self, data):
        """Takes bytes; gives the requests that are complete, and the first fault."""
        self.parser.receive_data(data)
        requests = []
        while True:
            unread, _ = self.parser.trailing_data
            event = self.parser.next_event()
            if isinstance(event, h11.Request):
                fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                fault = judge(unread[: unread.find(b"\r\n\r\n") + 4], fields)
                if fault:
                    return requests, fault
                self.request = {
                    "method": event.method.decode(), "target": event.target.decode(), "body": b"", "trailers": 0,
                }
            elif isinstance(event, h11.Data):
                self.request["body"] += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.request["body"] = base64.b64encode(self.request["body"]).decode()
                self.request["trailers"] = len(event.headers)
                requests.append(self.request)
                self.request = None
                self.answer()
            else:
                return requests, None

    def answer(self):
        """Says something, because only then h11 goes on to the next request."""
        self.parser.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        self.parser.send(h11.EndOfMessage())
        if self.parser.our_state is h11.DONE and self.parser.their_state is h11.DONE:
            self.parser.start_next_cycle()


def main():
    connections = {}
    for line in sys.stdin:
        message = json.loads(line)
        connection = connections.setdefault(message["connection"], Connection())
        try:
            requests, fault = connection.feed(base64.b64decode(message["data"]))
        except h11.ProtocolError as error:
            requests, fault = [], f"h11: {error}"
        if fault:
            # The next bytes begin with a request again.
            del connections[message["connection"]]
        print(json.dumps({"requests": requests, "fault": fault}), flush=True)


main()
