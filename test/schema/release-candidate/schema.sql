-- The schema after migration 0004, as the first release candidate of 0.1.0 created it. Recorded by schemaDump().

CREATE OR REPLACE FUNCTION usage_period()
 RETURNS interval
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN '00:00:30'::interval
;

CREATE OR REPLACE FUNCTION usage_period_end()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN (date_bin(((EXTRACT(epoch FROM usage_period()))::double precision * '00:00:01'::interval), statement_timestamp(), to_timestamp((0)::double precision)) + ((EXTRACT(epoch FROM usage_period()))::double precision * '00:00:01'::interval))
;

CREATE UNLOGGED TABLE pending_usage (
  period_end timestamp with time zone DEFAULT usage_period_end() NOT NULL,
  workspace_id uuid NOT NULL,
  source text DEFAULT COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text) NOT NULL,
  CONSTRAINT pending_usage_pkey PRIMARY KEY (period_end, workspace_id, source),
  CONSTRAINT pending_usage_source_length CHECK (((char_length(source) >= 1) AND (char_length(source) <= 63)))
) WITH (
  autovacuum_vacuum_threshold=1000,
  autovacuum_vacuum_scale_factor=0.0,
  autovacuum_vacuum_insert_threshold=-1,
  autovacuum_vacuum_cost_delay=0,
  vacuum_truncate=off
);

CREATE UNLOGGED TABLE pending_usage_witness (
  present boolean DEFAULT true NOT NULL,
  CONSTRAINT pending_usage_witness_pkey PRIMARY KEY (present),
  CONSTRAINT pending_usage_witness_single CHECK (present)
);

CREATE TABLE workspace_usage (
  workspace_id uuid NOT NULL,
  source text NOT NULL,
  last_used_at timestamp with time zone NOT NULL,
  CONSTRAINT workspace_usage_pkey PRIMARY KEY (workspace_id, source)
) WITH (
  fillfactor=75
);

CREATE TABLE workspaces (
  id uuid DEFAULT gen_random_uuid() NOT NULL,
  last_used_at timestamp with time zone,
  CONSTRAINT workspaces_pkey PRIMARY KEY (id)
) WITH (
  fillfactor=75
);

ALTER TABLE workspace_usage
  ADD CONSTRAINT workspace_usage_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE;

CREATE VIEW workspace_activity AS
 WITH RECURSIVE period(period_end) AS (
        ( SELECT pending_usage.period_end
           FROM pending_usage
          ORDER BY pending_usage.period_end
         LIMIT 1)
        UNION ALL
         SELECT next.period_end
           FROM (period
             CROSS JOIN LATERAL ( SELECT u.period_end
                   FROM pending_usage u
                  WHERE (u.period_end > period.period_end)
                  ORDER BY u.period_end
                 LIMIT 1) next)
        )
 SELECT w.id AS workspace_id,
        CASE
            WHEN live.pending THEN LEAST(p.period_end, statement_timestamp())
            ELSE w.last_used_at
        END AS last_used_at,
        CASE
            WHEN live.pending THEN p.source
            ELSE f.source
        END AS source,
    live.pending
   FROM (((workspaces w
     LEFT JOIN ( SELECT DISTINCT ON (pending_usage.workspace_id) pending_usage.workspace_id,
            pending_usage.period_end,
            pending_usage.source
           FROM pending_usage
          WHERE (pending_usage.period_end = ANY (ARRAY( SELECT period.period_end
                   FROM period)))
          ORDER BY pending_usage.workspace_id, pending_usage.period_end DESC, pending_usage.source) p ON ((p.workspace_id = w.id)))
     LEFT JOIN ( SELECT workspace_usage.workspace_id,
            workspace_usage.last_used_at,
            min(workspace_usage.source) AS source
           FROM workspace_usage
          GROUP BY workspace_usage.workspace_id, workspace_usage.last_used_at) f ON (((f.workspace_id = w.id) AND (f.last_used_at = w.last_used_at))))
     CROSS JOIN LATERAL ( SELECT ((p.period_end IS NOT NULL) AND COALESCE((p.period_end > w.last_used_at), true)) AS pending) live);

CREATE VIEW workspace_activity_by_source AS
 WITH RECURSIVE period(period_end) AS (
        ( SELECT pending_usage.period_end
           FROM pending_usage
          ORDER BY pending_usage.period_end
         LIMIT 1)
        UNION ALL
         SELECT next.period_end
           FROM (period
             CROSS JOIN LATERAL ( SELECT u.period_end
                   FROM pending_usage u
                  WHERE (u.period_end > period.period_end)
                  ORDER BY u.period_end
                 LIMIT 1) next)
        )
 SELECT latest.workspace_id,
    latest.source,
        CASE
            WHEN live.pending THEN LEAST(latest.period_end, statement_timestamp())
            ELSE latest.last_used_at
        END AS last_used_at,
    live.pending
   FROM (( SELECT used.workspace_id,
            used.source,
            max(used.period_end) AS period_end,
            max(used.last_used_at) AS last_used_at
           FROM ( SELECT workspace_usage.workspace_id,
                    workspace_usage.source,
                    NULL::timestamp with time zone AS period_end,
                    workspace_usage.last_used_at
                   FROM workspace_usage
                UNION ALL
                 SELECT pending_usage.workspace_id,
                    pending_usage.source,
                    pending_usage.period_end,
                    NULL::timestamp with time zone AS timestamptz
                   FROM pending_usage
                  WHERE (pending_usage.period_end = ANY (ARRAY( SELECT period.period_end
                           FROM period)))) used
          GROUP BY used.workspace_id, used.source) latest
     CROSS JOIN LATERAL ( SELECT ((latest.period_end IS NOT NULL) AND COALESCE((latest.period_end > latest.last_used_at), true)) AS pending) live);

COMMENT ON TABLE pending_usage IS 'Marks that are not flushed yet: INSERT (workspace_id[, source]) … ON CONFLICT DO NOTHING, nothing else. UNLOGGED: emptied by a crash of the server.';

COMMENT ON TABLE pending_usage_witness IS 'One row. Where it is missing, pending_usage was emptied by a crash of the server or the promotion of a standby; the next flush says so and puts it back.';

COMMENT ON FUNCTION usage_period() IS 'Length of a period. Read or change it with "workspace-usage period"; marks already stored keep their period.';

COMMENT ON FUNCTION usage_period_end() IS 'End of the period that the running statement falls in; always in the future. usage_period() is its length.';

COMMENT ON VIEW workspace_activity IS 'Last use of each workspace, pending use included. source is null if the workspace was never used or it is not known who did.';

COMMENT ON VIEW workspace_activity_by_source IS 'Last use of each workspace by each source, pending use included; also of ids that are marked and not in workspaces.';

COMMENT ON TABLE workspace_usage IS 'When each source last used each workspace, as flushed. Written by the flush only.';

COMMENT ON TABLE workspaces IS 'Created by workspace-usage.';

COMMENT ON COLUMN workspaces.last_used_at IS 'End of the last period in which the workspace was marked; null: never used. Written by the flush only. Do not index it: that costs the HOT update.';

CREATE TABLE workspace_usage_migration (name varchar(255) PRIMARY KEY, "timestamp" varchar(255) NOT NULL);
CREATE TABLE workspace_usage_migration_lock (id varchar(255) PRIMARY KEY, is_locked integer NOT NULL DEFAULT 0);
INSERT INTO workspace_usage_migration_lock VALUES ('migration_lock', 0);
INSERT INTO pending_usage_witness DEFAULT VALUES;
INSERT INTO workspace_usage_migration
SELECT name, '2026-11-25T12:00:00.000Z'
FROM unnest(ARRAY['0001_pending_usage', '0002_workspace_usage', '0003_workspace_activity', '0004_usage_period']) AS name;
