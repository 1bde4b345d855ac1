-- Schema 4: lists by vendor alone, by model alone, and by day alone; and what is often asked for beside something else stands in
-- the index of that. But for `roster_day`, none of these columns changes when a terminal calls.
DROP INDEX roster_model;
DROP INDEX roster_release;
CREATE INDEX roster_model ON roster (vendor, model, branch, terminal, state);
CREATE INDEX roster_release ON roster (release, branch, terminal, state, vendor, model) WHERE release IS NOT NULL;
CREATE INDEX roster_vendor ON roster (vendor, branch, terminal, state);
CREATE INDEX roster_kind ON roster (model, branch, terminal, state);
CREATE INDEX roster_day ON roster (seen, branch, terminal);
