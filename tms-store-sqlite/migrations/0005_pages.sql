-- Schema 5: pages of lists that several filters name, and of the audit log of a branch.

-- Lists by the beginning of a serial number, and those that no other index names better, look at nothing but an index for all they
-- are asked. None of these columns changes when a terminal calls.
DROP INDEX roster_branch;
DROP INDEX roster_serial;
CREATE INDEX roster_branch ON roster (branch, terminal, vendor, model, serial, merchant, release, state);
CREATE INDEX roster_serial ON roster (serial, branch, terminal, vendor, model, merchant, release, state);

-- Entries of the audit log are found, in their order, by their branch and by each above it, at any depth.
WITH RECURSIVE above (id, depth, path, rest) AS (
    SELECT id, 0, '/', substr(value, 2) FROM marks WHERE kind = 'audit' AND name = 'branch'
    UNION ALL
    SELECT id, depth + 1, path || substr(rest, 1, instr(rest, '/')), substr(rest, instr(rest, '/') + 1)
    FROM above WHERE instr(rest, '/') > 0
)
INSERT INTO marks SELECT 'audit', 'under' || depth, path || '@' || id, id FROM above;
DELETE FROM marks WHERE kind = 'audit' AND name = 'branch';
UPDATE documents SET marks = m.marks
FROM (SELECT id, json_group_object(name, value) AS marks FROM marks WHERE kind = 'audit' GROUP BY id) AS m
WHERE documents.kind = 'audit' AND documents.id = m.id;
