-- Schema 2: what happened to a terminal is found by an index, except its check-ins. Each of those would write a page of that
-- index, at a place of its own: as much again as the check-in itself.

DROP INDEX events_terminal;
CREATE INDEX events_history ON events (terminal, seq) WHERE terminal IS NOT NULL AND kind <> 'checked_in';
