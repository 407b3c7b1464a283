"""Requests that are none, table by table, with the section each comes from. Each is answered with
one status, never reaches an app as a whole request, and ends its connection."""

from tests.conformance.malformed import chunks, fields, framing, limits, lines
from tests.conformance.malformed.rows import Row

TABLES: dict[str, list[Row]] = {
    "content-length": framing.LENGTH,
    "transfer-encoding": framing.CODING,
    "both-framings": framing.BOTH,
    "expect": framing.EXPECT,
    "before-a-request": framing.BEFORE,
    "chunk-size": chunks.SIZE,
    "chunk-delimiters": chunks.DELIMITER,
    "chunk-extensions": chunks.EXTENSION,
    "trailers": chunks.TRAILER,
    "bytes-in-chunks": chunks.INSERTED,
    "method": lines.METHOD,
    "version": lines.VERSION,
    "target": lines.TARGET,
    "request-line": lines.FORM,
    "line-ends": lines.ENDS,
    "controls": lines.CONTROLS,
    "delete": lines.DELETE,
    "field-name": fields.NAME,
    "field-line": fields.LINE,
    "field-value": fields.VALUE,
    "host": fields.HOST,
    "request-line-length": limits.LINE_TOO_LONG,
    "method-length": limits.METHOD_TOO_LONG,
    "fields-length": limits.HEADERS_TOO_LARGE,
}
