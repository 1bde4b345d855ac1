-- Schema 3: the operator's side.

-- The roster: what operators list and count terminals by. `seen` is a day, and -1 for never; so a terminal that never called
-- comes before those that did.
CREATE TABLE roster (
    terminal INTEGER PRIMARY KEY,
    version  INTEGER NOT NULL CHECK (version > 0),
    branch   TEXT    NOT NULL,
    vendor   TEXT    NOT NULL,
    model    TEXT    NOT NULL,
    serial   TEXT    NOT NULL,
    merchant TEXT,
    release  TEXT,
    state    TEXT    NOT NULL,
    seen     INTEGER NOT NULL,
    body     TEXT    NOT NULL
) STRICT;

CREATE INDEX roster_branch ON roster (branch, terminal);
-- All that is counted by, so that counting reads nothing else.
CREATE INDEX roster_seen ON roster (branch, seen, terminal, vendor, model, merchant, release, state);
CREATE INDEX roster_model ON roster (vendor, model, branch, terminal);
CREATE INDEX roster_merchant ON roster (merchant, branch, terminal) WHERE merchant IS NOT NULL;
CREATE INDEX roster_release ON roster (release, branch, terminal) WHERE release IS NOT NULL;
CREATE INDEX roster_state ON roster (state, branch, terminal);
CREATE INDEX roster_serial ON roster (serial, branch, terminal);

-- Documents: records that the store keeps without knowing what they mean, and the marks by which they are found.
CREATE TABLE documents (
    kind    TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    marks   TEXT    NOT NULL,
    body    TEXT    NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE marks (
    kind  TEXT NOT NULL,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    id    TEXT NOT NULL,
    PRIMARY KEY (kind, name, value, id)
) STRICT, WITHOUT ROWID;
