-- Marking from plain SQL: a script, a cron job, another language, a trigger.
--
--     psql "$DATABASE_URL" --set=ON_ERROR_STOP=1 --file=examples/mark-from-sql.sql \
--       --set=workspace=1b4e28ba-2fa1-41d2-883f-0016d3cca427 \
--       --set=workspaces='{1b4e28ba-2fa1-41d2-883f-0016d3cca427,6fa459ea-ee8a-4ca4-894e-db77e160355e}'
--
-- The role needs only INSERT (workspace_id, source) on pending_usage. Mark outside a transaction if you can:
-- until a transaction ends, another mark of the same workspace, period and source waits for it.

-- The source is the application_name, here "psql". A second mark in the same period changes nothing.
INSERT INTO pending_usage (workspace_id) VALUES (:'workspace') ON CONFLICT DO NOTHING;

-- This names the source. Use few names, and never an id.
INSERT INTO pending_usage (workspace_id, source) VALUES (:'workspace', 'backup') ON CONFLICT DO NOTHING;

-- Many at once. ORDER BY makes the order always the same, so that two such statements can't deadlock.
INSERT INTO pending_usage (workspace_id, source)
SELECT id, 'reindex' FROM unnest(:'workspaces'::uuid[]) AS used (id) ORDER BY id
ON CONFLICT DO NOTHING;
