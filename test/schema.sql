CREATE OR REPLACE FUNCTION no_hidden_usage(view_name name, tables regclass[])
 RETURNS TABLE(workspace_id uuid, last_used_at timestamp with time zone, source text, pending boolean)
 LANGUAGE plpgsql
 STABLE PARALLEL SAFE ROWS 1
AS $function$
    DECLARE
      reader oid;
      hidden record;
    BEGIN
      IF NOT EXISTS (
        SELECT FROM pg_catalog.pg_class c WHERE c.oid = ANY (tables) AND (c.relrowsecurity OR c.relkind = 'v')
      ) THEN
        RETURN;
      END IF;
      SELECT CASE WHEN coalesce(c.reloptions::text, '') ~ 'security_invoker=(true|on|yes|1)' THEN to_regrole(quote_ident(current_user)) ELSE c.relowner END INTO reader
      FROM pg_catalog.pg_class c
      WHERE c.relname = view_name
        AND c.relnamespace = (SELECT t.relnamespace FROM pg_catalog.pg_class t WHERE t.oid = tables[1]);
      WITH RECURSIVE read (relation, role) AS (
        SELECT c.oid, reader FROM pg_catalog.pg_class c WHERE c.oid = ANY (tables)
        UNION
        SELECT d.refobjid, CASE WHEN coalesce(c.reloptions::text, '') ~ 'security_invoker=(true|on|yes|1)' THEN read.role ELSE c.relowner END
        FROM read
        JOIN pg_catalog.pg_class c ON c.oid = read.relation AND c.relkind = 'v'
        JOIN pg_catalog.pg_rewrite rule ON rule.ev_class = c.oid
        JOIN pg_catalog.pg_depend d
          ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = rule.oid
          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> c.oid
      )
      SELECT c.relname AS table_name, r.rolname AS role_name INTO hidden
      FROM read
      JOIN pg_catalog.pg_class c ON c.oid = read.relation
      JOIN pg_catalog.pg_roles r ON r.oid = read.role
      WHERE c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
        AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))
      LIMIT 1;
      IF FOUND THEN
        RAISE insufficient_privilege USING
          MESSAGE = format(
            'row-level security of table "%s" may hide rows from role "%s", with whose rights view "%s" reads',
            hidden.table_name, hidden.role_name, view_name
          ),
          HINT = 'Let the role inherit from the owner of the table, without FORCE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS.',
          TABLE = hidden.table_name,
          CONSTRAINT = 'no_hidden_usage';
      END IF;
    END
    $function$
;

CREATE OR REPLACE FUNCTION pending_usage_server(OUT system_identifier text, OUT timeline text)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
    BEGIN
      BEGIN
        system_identifier := (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s);
      EXCEPTION WHEN OTHERS THEN
      END;
      BEGIN
        timeline := pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8);
      EXCEPTION WHEN OTHERS THEN
      END;
    END
    $function$
;

CREATE OR REPLACE FUNCTION usage_complete_since()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE PARALLEL SAFE SECURITY DEFINER
BEGIN ATOMIC
 SELECT
         CASE
             WHEN (NOT (EXISTS ( SELECT
                FROM pending_usage_witness))) THEN statement_timestamp()
             WHEN (EXISTS ( SELECT
                FROM pending_usage_place p
               WHERE (p.noted AND (EXISTS ( SELECT
                        FROM source_usage)) AND ((p.anchor <> ( SELECT (a.xmin)::text AS xmin
                        FROM pending_usage_place a
                       WHERE (NOT a.noted))) OR (p.database_oid <> ( SELECT d.oid
                        FROM pg_database d
                       WHERE (d.datname = current_database()))))))) THEN statement_timestamp()
             ELSE COALESCE(( SELECT max(r.noticed_at) AS max
                FROM pending_usage_reset r), '-infinity'::timestamp with time zone)
         END AS complete_since;
END
;

CREATE OR REPLACE FUNCTION usage_period()
 RETURNS interval
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN '00:00:30'::interval
;

CREATE OR REPLACE FUNCTION usage_period_end()
 RETURNS timestamp with time zone
 LANGUAGE sql
 PARALLEL SAFE
RETURN (date_bin(((EXTRACT(epoch FROM usage_period()))::double precision * '00:00:01'::interval), clock_timestamp(), to_timestamp((0)::double precision)) + ((EXTRACT(epoch FROM usage_period()))::double precision * '00:00:01'::interval))
;

CREATE UNLOGGED TABLE pending_usage (
  period_end timestamp with time zone DEFAULT usage_period_end() NOT NULL,
  workspace_id uuid NOT NULL,
  source text DEFAULT "left"(COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text), 63) NOT NULL,
  CONSTRAINT pending_usage_pkey PRIMARY KEY (period_end, workspace_id, source),
  CONSTRAINT pending_usage_source_length CHECK (((char_length(source) >= 1) AND (char_length(source) <= 63)))
) WITH (
  autovacuum_vacuum_threshold=1000,
  autovacuum_vacuum_scale_factor=0.0,
  autovacuum_vacuum_insert_threshold=-1,
  autovacuum_vacuum_cost_delay=0,
  vacuum_truncate=off
);

CREATE TABLE pending_usage_place (
  noted boolean NOT NULL,
  anchor text,
  table_oid oid,
  database_oid oid,
  server_major integer,
  system_identifier text,
  timeline text,
  witness_file oid,
  CONSTRAINT pending_usage_place_pkey PRIMARY KEY (noted)
);

CREATE TABLE pending_usage_reset (
  noticed_at timestamp with time zone NOT NULL,
  flushed_until timestamp with time zone,
  reason text DEFAULT 'unknown'::text NOT NULL,
  CONSTRAINT pending_usage_reset_pkey PRIMARY KEY (noticed_at),
  CONSTRAINT pending_usage_reset_reason CHECK ((reason = ANY (ARRAY['crash'::text, 'promotion'::text, 'restore'::text, 'unknown'::text])))
);

CREATE UNLOGGED TABLE pending_usage_witness (
  present boolean DEFAULT true NOT NULL,
  flushed_at timestamp with time zone,
  counts jsonb,
  unsettled jsonb,
  CONSTRAINT pending_usage_witness_pkey PRIMARY KEY (present),
  CONSTRAINT pending_usage_witness_single CHECK (present)
);

CREATE UNLOGGED TABLE refused_usage (
  workspace_id uuid NOT NULL,
  since timestamp with time zone NOT NULL,
  attempts integer NOT NULL,
  sqlstate text,
  message text NOT NULL,
  next_attempt_at timestamp with time zone NOT NULL,
  CONSTRAINT refused_usage_pkey PRIMARY KEY (workspace_id)
);

CREATE UNLOGGED TABLE set_aside_usage (
  period_end timestamp with time zone DEFAULT usage_period_end() NOT NULL,
  workspace_id uuid NOT NULL,
  source text DEFAULT "left"(COALESCE(NULLIF(current_setting('application_name'::text), ''::text), 'unknown'::text), 63) NOT NULL,
  reason text NOT NULL,
  next_attempt_at timestamp with time zone NOT NULL,
  CONSTRAINT pending_usage_source_length CHECK (((char_length(source) >= 1) AND (char_length(source) <= 63))),
  CONSTRAINT set_aside_usage_pkey PRIMARY KEY (period_end, workspace_id, source),
  CONSTRAINT set_aside_usage_reason CHECK ((reason = ANY (ARRAY['held'::text, 'awaited'::text, 'refused'::text])))
) WITH (
  autovacuum_vacuum_threshold=1000,
  autovacuum_vacuum_scale_factor=0.0,
  autovacuum_vacuum_insert_threshold=-1,
  autovacuum_vacuum_cost_delay=0,
  vacuum_truncate=off
);

CREATE TABLE source_usage (
  source text NOT NULL,
  regular_since timestamp with time zone NOT NULL,
  last_used_at timestamp with time zone NOT NULL,
  CONSTRAINT source_usage_pkey PRIMARY KEY (source)
) WITH (
  fillfactor=50
);

CREATE TABLE stopped_workspaces (
  workspace_id uuid NOT NULL,
  idle_since timestamp with time zone NOT NULL,
  stopped_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
  CONSTRAINT stopped_workspaces_pkey PRIMARY KEY (workspace_id)
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

CREATE INDEX refused_usage_next_attempt ON refused_usage USING btree (next_attempt_at);

CREATE INDEX set_aside_usage_awaited ON set_aside_usage USING btree (next_attempt_at) WHERE (reason = 'awaited'::text);

CREATE INDEX set_aside_usage_held ON set_aside_usage USING btree (next_attempt_at) WHERE (reason = 'held'::text);

CREATE INDEX set_aside_usage_refused ON set_aside_usage USING btree (workspace_id) WHERE (reason = 'refused'::text);

CREATE INDEX set_aside_usage_workspace ON set_aside_usage USING btree (workspace_id, period_end, source);

CREATE VIEW pending_usage_period AS
 WITH RECURSIVE noted AS MATERIALIZED (
         SELECT pending_usage_witness.unsettled
           FROM pending_usage_witness
          WHERE ((pg_stat_get_dead_tuples(('pending_usage'::regclass)::oid) >= 50000) AND ((pending_usage_witness.unsettled ->> 'server'::text) = (EXTRACT(epoch FROM pg_postmaster_start_time()))::text) AND (((pending_usage_witness.unsettled ->> 'at'::text))::timestamp with time zone <= statement_timestamp()))
        ), stored_late AS (
         SELECT min(COALESCE(t.after, '-infinity'::timestamp with time zone)) AS after
           FROM (noted
             CROSS JOIN LATERAL jsonb_to_recordset((noted.unsettled -> 'open'::text)) t(transaction text, after timestamp with time zone))
          WHERE (NOT (EXISTS ( SELECT
                   FROM pg_locks l
                  WHERE ((l.virtualtransaction = t.transaction) AND (l.mode = 'RowExclusiveLock'::text) AND (l.relation = ('pending_usage'::regclass)::oid)))))
        ), unsettled_range(from_end, from_id, from_source, until_end) AS (
         SELECT '-infinity'::timestamp with time zone AS timestamptz,
            '00000000-0000-0000-0000-000000000000'::uuid AS uuid,
            ''::text AS text,
            'infinity'::timestamp with time zone AS timestamptz
          WHERE (NOT (EXISTS ( SELECT
                   FROM noted)))
        UNION ALL
         SELECT ((r."from" ->> 0))::timestamp with time zone AS timestamptz,
            ((r."from" ->> 1))::uuid AS uuid,
            (r."from" ->> 2),
            COALESCE(((r.until ->> 0))::timestamp with time zone, 'infinity'::timestamp with time zone) AS "coalesce"
           FROM (noted
             CROSS JOIN LATERAL jsonb_to_recordset((noted.unsettled -> 'ranges'::text)) r("from" jsonb, until jsonb))
        UNION ALL
         SELECT stored_late.after,
            '00000000-0000-0000-0000-000000000000'::uuid AS uuid,
            ''::text AS text,
            'infinity'::timestamp with time zone AS timestamptz
           FROM stored_late
          WHERE (stored_late.after IS NOT NULL)
        ), period(period_end, until_end) AS (
         SELECT first.period_end,
            r.until_end
           FROM (unsettled_range r
             CROSS JOIN LATERAL ( SELECT u.period_end
                   FROM ONLY pending_usage u
                  WHERE ((ROW(u.period_end, u.workspace_id, u.source) >= ROW(r.from_end, r.from_id, r.from_source)) AND (u.period_end <= r.until_end))
                  ORDER BY u.period_end, u.workspace_id, u.source
                 LIMIT 1) first)
        UNION ALL
         SELECT next.period_end,
            period_1.until_end
           FROM (period period_1
             CROSS JOIN LATERAL ( SELECT u.period_end
                   FROM ONLY pending_usage u
                  WHERE ((u.period_end > period_1.period_end) AND (u.period_end <= period_1.until_end))
                  ORDER BY u.period_end
                 LIMIT 1) next)
        )
 SELECT period_end
   FROM period;

CREATE VIEW workspace_activity AS
 SELECT no_hidden_usage.workspace_id,
    no_hidden_usage.last_used_at,
    no_hidden_usage.source,
    no_hidden_usage.pending
   FROM no_hidden_usage('workspace_activity'::name, ARRAY['pending_usage'::regclass, 'set_aside_usage'::regclass, 'workspaces'::regclass, 'workspace_usage'::regclass]) no_hidden_usage(workspace_id, last_used_at, source, pending)
UNION ALL
( WITH period AS (
         SELECT pending_usage_period.period_end
           FROM pending_usage_period
        )
 SELECT w.id AS workspace_id,
        CASE
            WHEN live.pending THEN LEAST(p.period_end, statement_timestamp())
            ELSE flushed.last_used_at
        END AS last_used_at,
        CASE
            WHEN live.pending THEN p.source
            ELSE f.source
        END AS source,
    live.pending
   FROM ((((workspaces w
     LEFT JOIN ( SELECT DISTINCT ON (marks.workspace_id) marks.workspace_id,
            marks.period_end,
            marks.source
           FROM ( SELECT pending_usage.workspace_id,
                    pending_usage.period_end,
                    pending_usage.source
                   FROM ONLY pending_usage
                  WHERE (pending_usage.period_end = ANY (ARRAY( SELECT period.period_end
                           FROM period)))
                UNION ALL
                 SELECT set_aside_usage.workspace_id,
                    set_aside_usage.period_end,
                    set_aside_usage.source
                   FROM set_aside_usage) marks
          ORDER BY marks.workspace_id, marks.period_end DESC, marks.source) p ON ((p.workspace_id = w.id)))
     LEFT JOIN ( SELECT workspace_usage.workspace_id,
            workspace_usage.last_used_at,
            min(workspace_usage.source) AS source
           FROM workspace_usage
          GROUP BY workspace_usage.workspace_id, workspace_usage.last_used_at) f ON (((f.workspace_id = w.id) AND (f.last_used_at = w.last_used_at))))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN ((w.last_used_at >= '1970-01-02 00:00:00+00'::timestamp with time zone) AND (w.last_used_at < 'infinity'::timestamp with time zone)) THEN w.last_used_at
                    ELSE NULL::timestamp with time zone
                END AS last_used_at) flushed)
     CROSS JOIN LATERAL ( SELECT ((p.period_end IS NOT NULL) AND COALESCE((p.period_end > flushed.last_used_at), true)) AS pending) live));

CREATE VIEW workspace_activity_by_source AS
 SELECT no_hidden_usage.workspace_id,
    no_hidden_usage.source,
    no_hidden_usage.last_used_at,
    no_hidden_usage.pending
   FROM no_hidden_usage('workspace_activity_by_source'::name, ARRAY['pending_usage'::regclass, 'set_aside_usage'::regclass, 'workspaces'::regclass, 'workspace_usage'::regclass]) no_hidden_usage(workspace_id, last_used_at, source, pending)
UNION ALL
( WITH period AS (
         SELECT pending_usage_period.period_end
           FROM pending_usage_period
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
                 SELECT marks.workspace_id,
                    marks.source,
                    marks.period_end,
                    NULL::timestamp with time zone AS timestamptz
                   FROM ( SELECT pending_usage.workspace_id,
                            pending_usage.period_end,
                            pending_usage.source
                           FROM ONLY pending_usage
                          WHERE (pending_usage.period_end = ANY (ARRAY( SELECT period.period_end
                                   FROM period)))
                        UNION ALL
                         SELECT set_aside_usage.workspace_id,
                            set_aside_usage.period_end,
                            set_aside_usage.source
                           FROM set_aside_usage) marks) used
          GROUP BY used.workspace_id, used.source) latest
     CROSS JOIN LATERAL ( SELECT ((latest.period_end IS NOT NULL) AND COALESCE((latest.period_end > latest.last_used_at), true)) AS pending) live));

COMMENT ON FUNCTION no_hidden_usage(name,regclass[]) IS 'No rows. An error if row-level security may hide rows from a view of workspace-usage, which would then be wrong.';

COMMENT ON TABLE pending_usage IS 'Marks that are not flushed yet: INSERT (workspace_id[, source]) … ON CONFLICT DO NOTHING, nothing else. UNLOGGED: emptied by a crash of the server.';

COMMENT ON VIEW pending_usage_period IS 'The periods of the marks in pending_usage, without those that are set aside. A period may occur twice.';

COMMENT ON TABLE pending_usage_place IS 'Where the marks were when a flush last looked. It tells a crash, a promotion and a restore apart. The row that is not noted is the anchor: nobody updates it.';

COMMENT ON TABLE pending_usage_reset IS 'When a flush noticed that pending marks were lost, and why. Marks between the two times may be missing. Delete a row if you know that none is.';

COMMENT ON FUNCTION pending_usage_server() IS 'The identity of this server and the timeline of its WAL, as far as it tells them. For pending_usage_place.';

COMMENT ON TABLE pending_usage_witness IS 'One row. Where it is missing, pending_usage was emptied by a crash of the server or the promotion of a standby; the next flush says so and puts it back.';

COMMENT ON COLUMN pending_usage_witness.unsettled IS 'In which ranges of their key there may be marks, as noted by a flush among many dead rows. See pending_usage_period.';

COMMENT ON TABLE refused_usage IS 'Workspaces whose update PostgreSQL refuses, and why. Their marks are set aside. The flush tries them again and removes what succeeds.';

COMMENT ON TABLE set_aside_usage IS 'Marks that a flush could not settle: held, awaited or refused. A child of pending_usage, so they are pending. Written by the flush only.';

COMMENT ON TABLE source_usage IS 'When each source was last flushed, and since when without a gap of more than an hour. Delete a row to forget a source.';

COMMENT ON TABLE stopped_workspaces IS 'Workspaces that a reaper has stopped, and the last use that it stopped them for. It stops one again once it was used after idle_since. Delete a row to have it stopped again.';

COMMENT ON FUNCTION usage_complete_since() IS 'From when on marks are complete: -infinity if none were ever lost. What was used before may look idle.';

COMMENT ON FUNCTION usage_period() IS 'Length of a period. Read or change it with "workspace-usage period"; marks already stored keep their period.';

COMMENT ON FUNCTION usage_period_end() IS 'End of the period that this moment falls in; always in the future. usage_period() is its length.';

COMMENT ON VIEW workspace_activity IS 'Last use of each workspace, pending use included. source is null if the workspace was never used or it is not known who did.';

COMMENT ON VIEW workspace_activity_by_source IS 'Last use of each workspace by each source, pending use included; also of ids that are marked and not in workspaces.';

COMMENT ON TABLE workspace_usage IS 'When each source last used each workspace, as flushed. Written by the flush only.';

COMMENT ON TABLE workspaces IS 'Created by workspace-usage.';

COMMENT ON COLUMN workspaces.last_used_at IS 'End of the last period in which the workspace was marked; null: never used. Written by the flush only. Do not index it: that costs the HOT update.';
