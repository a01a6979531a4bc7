CREATE OR REPLACE FUNCTION usage_period_end()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$
      SELECT pg_catalog.to_timestamp(
        (pg_catalog.floor(extract(epoch FROM pg_catalog.statement_timestamp()) / 30) + 1) * 30
      )
    $function$
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
         SELECT min(pending_usage.period_end) AS min
           FROM pending_usage
        UNION ALL
         SELECT ( SELECT min(later.period_end) AS min
                   FROM pending_usage later
                  WHERE (later.period_end > period.period_end)) AS min
           FROM period
          WHERE (period.period_end IS NOT NULL)
        )
 SELECT w.id AS workspace_id,
    GREATEST(w.last_used_at, f.last_used_at, LEAST(p.period_end, statement_timestamp())) AS last_used_at,
        CASE
            WHEN ((p.period_end IS NOT NULL) AND (LEAST(p.period_end, statement_timestamp()) >= COALESCE(GREATEST(w.last_used_at, f.last_used_at), '-infinity'::timestamp with time zone))) THEN p.source
            WHEN (f.last_used_at >= COALESCE(w.last_used_at, '-infinity'::timestamp with time zone)) THEN f.source
            ELSE NULL::text
        END AS source,
    COALESCE((p.period_end > GREATEST(w.last_used_at, f.last_used_at)), (p.period_end IS NOT NULL)) AS pending
   FROM ((workspaces w
     LEFT JOIN ( SELECT DISTINCT ON (pending_usage.workspace_id) pending_usage.workspace_id,
            pending_usage.period_end,
            pending_usage.source
           FROM pending_usage
          WHERE (pending_usage.period_end = ANY (ARRAY( SELECT period.period_end
                   FROM period)))
          ORDER BY pending_usage.workspace_id, pending_usage.period_end DESC, pending_usage.source) p ON ((p.workspace_id = w.id)))
     LEFT JOIN ( SELECT DISTINCT ON (workspace_usage.workspace_id) workspace_usage.workspace_id,
            workspace_usage.last_used_at,
            workspace_usage.source
           FROM workspace_usage
          ORDER BY workspace_usage.workspace_id, workspace_usage.last_used_at DESC, workspace_usage.source) f ON ((f.workspace_id = w.id)));

COMMENT ON TABLE pending_usage IS 'Marks that are not flushed yet: INSERT (workspace_id[, source]) … ON CONFLICT DO NOTHING, nothing else. UNLOGGED: emptied by a crash of the server.';

COMMENT ON FUNCTION usage_period_end() IS 'End of the period that the running statement falls in; always in the future. The length of a period is defined here only.';

COMMENT ON TABLE workspace_usage IS 'When each source last used each workspace, as flushed. Written by the flush only.';

COMMENT ON TABLE workspaces IS 'Created by workspace-usage.';

COMMENT ON COLUMN workspaces.last_used_at IS 'End of the last period in which the workspace was marked; null: never used. Written by the flush only. Do not index it: that costs the HOT update.';
