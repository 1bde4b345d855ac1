-- Schema 1. This file is never changed once released: what comes later is a migration of its own.
--
-- A record is kept whole as JSON in `body`; the columns beside it are what it is found by, and they always agree with it.
-- Ids are 64 bits without a sign. They are kept with the highest bit flipped, so that SQLite's signed integers sort as they
-- do. Times are seconds since 1970 UTC; those that do not fit are kept as the greatest that does.

PRAGMA application_id = 0x544d5331; -- "TMS1"

CREATE TABLE terminals (
    id            INTEGER PRIMARY KEY,
    version       INTEGER NOT NULL CHECK (version > 0),
    vendor        TEXT    NOT NULL,
    model         TEXT    NOT NULL,
    serial        TEXT    NOT NULL,
    credential    BLOB,
    state         TEXT    NOT NULL,
    last_check_in INTEGER,
    next_contact  INTEGER,
    body          TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX terminals_holder ON terminals (serial, model, vendor);
CREATE INDEX terminals_credential ON terminals (credential) WHERE credential IS NOT NULL;

CREATE TABLE inventories (
    terminal INTEGER PRIMARY KEY,
    version  INTEGER NOT NULL CHECK (version > 0),
    reported INTEGER NOT NULL,
    body     TEXT    NOT NULL
) STRICT;

CREATE TABLE packages (
    manifest  BLOB    NOT NULL PRIMARY KEY,
    version   INTEGER NOT NULL CHECK (version > 0),
    vendor    TEXT    NOT NULL,
    component TEXT    NOT NULL,
    published INTEGER NOT NULL,
    body      TEXT    NOT NULL
) STRICT;

-- `stage` and `code` are the numbers of the protocol (§12).
CREATE TABLE assignments (
    terminal INTEGER NOT NULL,
    action   INTEGER NOT NULL,
    version  INTEGER NOT NULL CHECK (version > 0),
    package  BLOB    NOT NULL,
    stage    INTEGER NOT NULL,
    code     INTEGER NOT NULL,
    closed   INTEGER NOT NULL CHECK (closed IN (0, 1)),
    updated  INTEGER NOT NULL,
    body     TEXT    NOT NULL,
    PRIMARY KEY (terminal, action)
) STRICT;

-- What a check-in reads: it stays short however many assignments a terminal has behind it.
CREATE INDEX assignments_open ON assignments (terminal, action) WHERE closed = 0;

-- Events are never removed, and there is one writer at a time: the next number is always the greatest so far plus one.
CREATE TABLE events (
    seq      INTEGER PRIMARY KEY,
    terminal INTEGER,
    kind     TEXT    NOT NULL,
    time     INTEGER NOT NULL,
    body     TEXT    NOT NULL
) STRICT;

CREATE INDEX events_terminal ON events (terminal) WHERE terminal IS NOT NULL;
